//go:build ignore

// Bits of integers and predicates: logic, shifts, fields, counts, permutations.
#include "decode.h"
#include "numeric.h"

// ---- shifts: by as much as the width or more they leave zeros, or copies of the sign

template <class T, auto F> struct Shift {
	static void run(Warp& w, const Insn& i) {
		T* d = plane<T>(w, i.d);
		const T* a = plane<T>(w, i.a);
		const u32* b = plane<u32>(w, i.b);
		each_lane(w, [&](int l) { d[l] = (T)F(a[l], b[l]); });
	}
};

template <class T> static T left(T a, u32 by) { return by >= 8 * sizeof(T) ? 0 : (T)(a << by); }
template <class T> static T right(T a, u32 by) { return by >= 8 * sizeof(T) ? (T)(a < 0 ? -1 : 0) : (T)(a >> by); }

// shf: 32 bits of b:a, shifted; flag: to the right; mode 1: by at most 32, else by c modulo 32
static void funnel(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		const u64 x = plane<u32>(w, i.a)[l] | (u64)plane<u32>(w, i.b)[l] << 32;
		const u32 c = plane<u32>(w, i.c)[l], by = i.mode ? std::min(c, 32u) : c & 31;
		plane<u32>(w, i.d)[l] = (u32)(i.flag ? x >> by : x << by >> 32);
	});
}

static void decode_funnel(Decoder& d) {
	Insn& i = d.insn;
	i.flag = d.take_one({"l", "r"}) == 1;
	i.mode = (u8)(d.take_one({"wrap", "clamp"}) == 1);
	d.destination(0);
	i.a = d.source(1, 4).plane, i.b = d.source(2, 4).plane, i.c = d.source(3, 4).plane;
	i.run = funnel;
}

// ---- fields of `length` bits from `first` on; both are taken modulo 256

template <class T> static T ones(u32 first, u32 length) {
	constexpr u32 BITS = 8 * sizeof(T);
	if (first >= BITS) return 0;
	return (T)((length >= BITS ? ~(T)0 : ((T)1 << length) - 1) << first);
}

template <class T> static T extract(T a, u32 first, u32 length) { return right(a, first) & ones<T>(0, length); }

// The sign bit is the last of the field, or of a where the field reaches beyond it.
template <class T> static T extract_signed(T a, u32 first, u32 length) {
	constexpr u32 BITS = 8 * sizeof(T);
	if (length == 0) return 0;
	const u32 last = std::min(first + length - 1, BITS - 1);
	const bool negative = a >> last & 1;
	const T field = (T)extract<std::make_unsigned_t<T>>((std::make_unsigned_t<T>)a, first, length);
	const u32 known = first > last ? 0 : last - first + 1;
	return negative ? (T)(field | (T)~ones<std::make_unsigned_t<T>>(0, known)) : field;
}

template <class T, T (*F)(T, u32, u32)> static void field(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		const u32 first = plane<u32>(w, i.b)[l] & 255, length = plane<u32>(w, i.c)[l] & 255;
		plane<T>(w, i.d)[l] = F(plane<T>(w, i.a)[l], first, length);
	});
}

template <class T> static void insert(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		const u32 first = plane<u32>(w, i.c)[l] & 255, length = plane<u32>(w, i.e)[l] & 255;
		const T mask = ones<T>(first, length);
		plane<T>(w, i.d)[l] = (left(plane<T>(w, i.a)[l], first) & mask) | (plane<T>(w, i.b)[l] & ~mask);
	});
}

static void decode_field(Decoder& d, const std::string& type) {
	Insn& i = d.insn;
	const u8 width = width_of_type(type);
	const bool inserting = d.name() == "bfi";
	d.destination(0);
	i.a = d.source(1, width).plane;
	i.b = d.source(2, inserting ? width : 4).plane;
	i.c = d.source(3, 4).plane;
	if (inserting) {
		i.e = d.source(4, 4).plane;
		i.run = type == "b32" ? insert<u32> : type == "b64" ? insert<u64> : nullptr;
		return;
	}
	i.run = type == "u32"   ? field<u32, extract<u32>>
	        : type == "s32" ? field<int, extract_signed<int>>
	        : type == "u64" ? field<u64, extract<u64>>
	        : type == "s64" ? field<i64, extract_signed<i64>>
	                        : nullptr;
}

// ---- counts: a 32-bit result whatever the type of the operand

template <class T, auto F> struct Count {
	static void run(Warp& w, const Insn& i) {
		each_lane(w, [&](int l) { plane<u32>(w, i.d)[l] = (u32)F(plane<T>(w, i.a)[l]); });
	}
};

static Run count_function(const std::string& name, const std::string& type) {
	if (name == "clz" && type == "b32") return Count<u32, ([](u32 a) { return a ? __builtin_clz(a) : 32; })>::run;
	if (name == "clz" && type == "b64") return Count<u64, ([](u64 a) { return a ? __builtin_clzll(a) : 64; })>::run;
	if (name == "popc" && type == "b32") return Count<u32, ([](u32 a) { return __builtin_popcount(a); })>::run;
	if (name == "popc" && type == "b64") return Count<u64, ([](u64 a) { return __builtin_popcountll(a); })>::run;
	return nullptr;
}

// bfind: the position of the highest bit that is not the sign, or how far left it can be
// shifted; all ones if there is none.
template <class T, bool SHIFT> static u32 find_bit(T a) {
	const T magnitude = a < 0 ? ~a : a;
	if (magnitude == 0) return ~0u;
	const u32 position = 63 - (u32)__builtin_clzll((u64)magnitude);
	return SHIFT ? 8 * sizeof(T) - 1 - position : position;
}

template <bool SHIFT> static Run find_function(const std::string& type) {
	if (type == "u32") return Count<u32, find_bit<u32, SHIFT>>::run;
	if (type == "s32") return Count<int, find_bit<int, SHIFT>>::run;
	if (type == "u64") return Count<u64, find_bit<u64, SHIFT>>::run;
	if (type == "s64") return Count<i64, find_bit<i64, SHIFT>>::run;
	return nullptr;
}

template <class T> static T reversed(T a) {
	T r = 0;
	for (u32 j = 0; j < 8 * sizeof(T); j++) r |= (a >> j & 1) << (8 * sizeof(T) - 1 - j);
	return r;
}

// ---- prmt: byte j of d is the byte of b:a that digit j of c names; with 8 in the digit, its sign

static u32 permuted(u32 a, u32 b, u32 c) {
	const u64 bytes = a | (u64)b << 32;
	u32 r = 0;
	for (int j = 0; j < 4; j++) {
		const u32 digit = c >> 4 * j & 15;
		u32 byte = bytes >> 8 * (digit & 7) & 255;
		if (digit & 8) byte = byte & 128 ? 255 : 0;
		r |= byte << 8 * j;
	}
	return r;
}

// lop3: any function of three bits, as the table imm of its eight values
static void logic3(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		const u32 a = plane<u32>(w, i.a)[l], b = plane<u32>(w, i.b)[l], c = plane<u32>(w, i.c)[l];
		u32 r = 0;
		for (int j = 0; j < 8; j++)
			if (i.mode >> j & 1) r |= (j & 4 ? a : ~a) & (j & 2 ? b : ~b) & (j & 1 ? c : ~c);
		plane<u32>(w, i.d)[l] = r;
	});
}

static Run bit_function(const std::string& name, const std::string& type) {
	if (name == "and") return by_integer<Binary, ([](auto a, auto b) { return a & b; })>(type);
	if (name == "or") return by_integer<Binary, ([](auto a, auto b) { return a | b; })>(type);
	if (name == "xor") return by_integer<Binary, ([](auto a, auto b) { return a ^ b; })>(type);
	if (name == "not" && type == "pred") return Unary<u32, ([](u32 a) { return a == 0; })>::run;
	if (name == "not") return by_integer<Unary, ([](auto a) { return ~a; })>(type);
	if (name == "shl") return by_integer<Shift, ([](auto a, u32 by) { return left(a, by); })>(type);
	if (name == "shr") return by_integer<Shift, ([](auto a, u32 by) { return right(a, by); })>(type);
	if (name == "brev" && type == "b32") return Unary<u32, reversed<u32>>::run;
	if (name == "brev" && type == "b64") return Unary<u64, reversed<u64>>::run;
	if (name == "bmsk" && type == "b32") return Binary<u32, ones<u32>>::run;
	if (name == "prmt" && type == "b32") return Ternary<u32, permuted>::run;
	return count_function(name, type);
}

void decode_bits(Decoder& d) {
	Insn& i = d.insn;
	const bool shift_amount = d.take("shiftamt");
	const std::string type = d.take_type();
	if (d.name() == "shf") return decode_funnel(d);
	if (d.name() == "bfe" || d.name() == "bfi") return decode_field(d, type);
	const bool shifting = d.name() == "shl" || d.name() == "shr";
	const u8 width = width_of_type(type);
	d.take("clamp");  // of bmsk
	d.destination(0);
	i.a = d.source(1, width).plane;
	if (d.count() > 2) i.b = d.source(2, shifting ? 4 : width).plane;
	if (d.count() > 3) i.c = d.source(3, width).plane;
	if (d.name() == "lop3") {
		i.mode = (u8)d.immediate(4);
		i.run = type == "b32" ? logic3 : nullptr;
		return;
	}
	if (d.name() == "bfind") i.run = shift_amount ? find_function<true>(type) : find_function<false>(type);
	else i.run = bit_function(d.name(), type);
}
