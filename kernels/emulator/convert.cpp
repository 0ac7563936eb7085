//go:build ignore

// cvt, and the number formats of 16 bits.
#include <cmath>

#include "decode.h"
#include "numeric.h"

// ---- formats

u16 to_bf16(float x) {
	if (std::isnan(x)) return 0x7fff;
	u32 bits;
	memcpy(&bits, &x, 4);
	return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float from_half(u16 h) {
	_Float16 x;
	memcpy(&x, &h, 2);
	return (float)x;
}

u16 to_half(float x) {
	if (std::isnan(x)) return 0x7fff;
	const _Float16 h = (_Float16)x;
	u16 bits;
	memcpy(&bits, &h, 2);
	return bits;
}

enum Type : u8 { S8, U8, S16, U16, S32, U32, S64, U64, F16, BF16, F32, F64 };
static bool is_integer(u8 t) { return t <= U64; }
static bool is_signed(u8 t) { return is_integer(t) && t % 2 == 0; }
static int bits_of(u8 t) { return 8 << t / 2; }  // of an integer

static bool find_type(const std::string& name, u8& t) {
	static const std::map<std::string, u8> types = {{"s8", S8},   {"u8", U8},   {"s16", S16}, {"u16", U16},   {"s32", S32}, {"u32", U32},
	                                                {"s64", S64}, {"u64", U64}, {"f16", F16}, {"bf16", BF16}, {"f32", F32}, {"f64", F64}};
	auto it = types.find(name);
	if (it == types.end()) return false;
	t = it->second;
	return true;
}

// ---- reading and writing one lane

// An integer in 64 bits, extended as its type says; its register may be wider than it.
static u64 extend(u64 x, u8 type) {
	const int unused = 64 - bits_of(type);
	return is_signed(type) ? (u64)((i64)(x << unused) >> unused) : x << unused >> unused;
}

static double read_float(Warp& w, const Insn& i, int l) {
	switch (i.at) {
	case F16: return from_half(plane<u16>(w, i.a)[l]);
	case BF16: return from_bf16(plane<u16>(w, i.a)[l]);
	case F32: return plane<float>(w, i.a)[l];
	default: return plane<double>(w, i.a)[l];
	}
}

static void write_float(Warp& w, const Insn& i, int l, double x) {
	switch (i.dt) {
	case F16: plane<u16>(w, i.d)[l] = to_half((float)x); break;
	case BF16: plane<u16>(w, i.d)[l] = to_bf16((float)x); break;
	case F32: plane<float>(w, i.d)[l] = (float)x; break;
	default: plane<double>(w, i.d)[l] = x;
	}
}

// ---- the four directions

static void integer_to_integer(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) { put(w, i.d, i.dw, l, extend(extend(get(w, i.a, i.aw, l), i.at), i.dt)); });
}

// Rounded once: to float32 directly, as from there to 16 bits no bit of 64 would be left.
static void integer_to_float(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		const u64 x = extend(get(w, i.a, i.aw, l), i.at);
		if (i.dt == F64) write_float(w, i, l, is_signed(i.at) ? (double)(i64)x : (double)x);
		else write_float(w, i, l, is_signed(i.at) ? (float)(i64)x : (float)x);
	});
}

enum Rounding : u8 { NEAREST, ZERO, DOWN, UP, NONE };

static double to_integral(double x, u8 rounding) {
	switch (rounding) {
	case NEAREST: return std::nearbyint(x);
	case ZERO: return std::trunc(x);
	case DOWN: return std::floor(x);
	case UP: return std::ceil(x);
	default: return x;
	}
}

// Out of range becomes the nearest integer, NaN becomes 0.
static u64 saturated(double x, u8 type) {
	const int bits = bits_of(type);
	const double end = std::ldexp(1, is_signed(type) ? bits - 1 : bits), least = is_signed(type) ? -end : 0;
	if (std::isnan(x)) return 0;
	if (x >= end) return ~0ull >> (64 - bits + is_signed(type));
	if (x <= least) return is_signed(type) ? 1ull << (bits - 1) : 0;
	return is_signed(type) ? (u64)(i64)x : (u64)x;
}

static void float_to_integer(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) { put(w, i.d, i.dw, l, extend(saturated(to_integral(read_float(w, i, l), i.mode), i.dt), i.dt)); });
}

// flag: .sat, to [0, 1] with NaN as 0
static void float_to_float(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		double x = to_integral(read_float(w, i, l), i.mode);
		if (i.flag) x = x > 0 ? std::min(x, 1.) : 0;
		write_float(w, i, l, x);
	});
}

template <u16 (*F)(float)> static void pack_pair(Warp& w, const Insn& i) {
	const float *high = plane<float>(w, i.a), *low = plane<float>(w, i.b);
	u32* d = plane<u32>(w, i.d);
	each_lane(w, [&](int l) { d[l] = (u32)F(high[l]) << 16 | F(low[l]); });
}

void decode_convert(Decoder& d) {
	Insn& i = d.insn;
	const std::string from = d.take_type(), to = d.take_type();
	d.destination(0);
	if (to == "bf16x2" || to == "f16x2") {
		if (from != "f32" || !d.take("rn")) return;
		i.a = d.source(1, 4).plane, i.b = d.source(2, 4).plane;
		i.run = to == "bf16x2" ? pack_pair<to_bf16> : pack_pair<to_half>;
		return;
	}
	if (!find_type(from, i.at) || !find_type(to, i.dt)) return;
	const Register r = d.source(1, width_of_type(from));
	i.a = r.plane, i.aw = r.width;
	const int integral = d.take_one({"rni", "rzi", "rmi", "rpi"});
	i.mode = (u8)(integral < 0 ? NONE : integral);
	d.take("rn");
	if (is_integer(i.at)) {
		i.run = is_integer(i.dt) ? integer_to_integer : integer_to_float;
		return;
	}
	i.flag = !is_integer(i.dt) && d.take("sat");
	i.run = is_integer(i.dt) ? float_to_integer : float_to_float;
}
