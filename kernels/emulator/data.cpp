//go:build ignore

// Moves between registers, comparisons and selections.
#include "decode.h"
#include "numeric.h"

// ---- mov

template <class T> static void move(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T* a = plane<T>(w, i.a);
	each_lane(w, [&](int l) { d[l] = a[l]; });
}

// Predicates are 0 or 1, also where -1 is the text of true.
static void move_predicate(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) { plane<u32>(w, i.d)[l] = plane<u32>(w, i.a)[l] != 0; });
}

static Run move_function(u8 width) { return width == 8 ? move<u64> : width == 4 ? move<u32> : move<u16>; }

// {v[0], v[1], ...} = a, of elements of `width` bytes
static void unpack(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		const u64 x = get(w, i.a, i.aw, l);
		for (int j = 0; j < i.n; j++) put(w, i.v[j], i.width, l, x >> 8 * i.width * j);
	});
}

static void pack(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		u64 x = 0;
		for (int j = 0; j < i.n; j++) x |= get(w, i.v[j], i.width, l) << 8 * i.width * j;
		put(w, i.d, i.dw, l, x);
	});
}

void decode_move(Decoder& d) {
	Insn& i = d.insn;
	const std::string type = d.take_type();
	const u8 width = width_of_type(type);
	const auto to = d.list(0), from = d.list(1);
	if (to.size() == 1 && from.size() == 1) {
		d.destination(0);
		i.a = d.source(1, width).plane;
		i.run = type == "pred" ? move_predicate : move_function(width);
		return;
	}
	const bool unpacking = to.size() > 1;
	const auto& list = unpacking ? to : from;
	i.n = (u8)list.size(), i.width = width / i.n;
	if (list.size() > 4 || i.width < 2) return;
	for (int j = 0; j < i.n; j++) {
		const Register r = unpacking && list[j] == "_" ? d.names().scratch(i.width) : d.operand(list[j], i.width);
		i.v[j] = r.plane;
	}
	if (unpacking) {
		i.a = d.source(1, width).plane, i.aw = width;
		i.run = unpack;
	} else {
		d.destination(0);
		i.run = pack;
	}
}

// ---- cvta: addresses of a space from and to generic ones

static u64 window_of(Space s) { return s == SHARED_SPACE ? SHARED : s == LOCAL_SPACE ? LOCAL : 0; }

static void to_generic(Warp& w, const Insn& i) {
	const u64 base = window_of(i.space);
	each_lane(w, [&](int l) { put(w, i.d, i.dw, l, get(w, i.a, i.aw, l) + base); });
}

static void from_generic(Warp& w, const Insn& i) {
	const u64 base = window_of(i.space);
	each_lane(w, [&](int l) {
		const u64 x = get(w, i.a, i.aw, l);
		if (base && (x < base || x >= base + WINDOW))
			fail(ILLEGAL_ADDRESS, "%s: %#llx is not an address of that space", where(w, l).c_str(), (unsigned long long)x);
		put(w, i.d, i.dw, l, x - base);
	});
}

void decode_cvta(Decoder& d) {
	Insn& i = d.insn;
	const bool from = d.take("to");
	switch (d.take_one({"global", "const", "shared", "shared::cta", "local", "param"})) {
	case 0: case 1: i.space = GLOBAL_SPACE; break;
	case 2: case 3: i.space = SHARED_SPACE; break;
	case 4: i.space = LOCAL_SPACE; break;
	default: return;
	}
	if (!d.take("u64")) return;
	d.destination(0);
	const Register r = d.source(1, 8);
	i.a = r.plane, i.aw = r.width;
	i.run = from ? from_generic : to_generic;
}

// ---- setp: d = a ? b, combined with predicate c, which flag negates, as mode says;
// v[0], if n is 2, gets the negated comparison combined in the same way

enum Combine { ALONE, AND, OR, XOR };

static bool combine(u8 mode, bool x, bool y) { return mode == AND ? x && y : mode == OR ? x || y : mode == XOR ? x != y : x; }

template <class T, auto F> static void compare(Warp& w, const Insn& i) {
	u32 *d = plane<u32>(w, i.d), *inverse = plane<u32>(w, i.v[0]);
	const u32* c = plane<u32>(w, i.c);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
	if (i.mode == ALONE && i.n == 1) {
		each_lane(w, [&](int l) { d[l] = F(a[l], b[l]); });
		return;
	}
	each_lane(w, [&](int l) {
		const bool x = F(a[l], b[l]), y = (c[l] != 0) != i.flag;
		d[l] = combine(i.mode, x, y);
		if (i.n == 2) inverse[l] = combine(i.mode, !x, y);
	});
}

template <class T, auto F> struct Comparison {
	static void run(Warp& w, const Insn& i) { compare<T, F>(w, i); }
};

// lo, ls, hi, hs are the names of lt, le, gt, ge for unsigned integers.
static Run integer_comparison(const std::string& how, const std::string& type) {
	if (how == "eq") return by_integer<Comparison, ([](auto a, auto b) { return a == b; })>(type);
	if (how == "ne") return by_integer<Comparison, ([](auto a, auto b) { return a != b; })>(type);
	if (how == "lt" || how == "lo") return by_integer<Comparison, ([](auto a, auto b) { return a < b; })>(type);
	if (how == "le" || how == "ls") return by_integer<Comparison, ([](auto a, auto b) { return a <= b; })>(type);
	if (how == "gt" || how == "hi") return by_integer<Comparison, ([](auto a, auto b) { return a > b; })>(type);
	if (how == "ge" || how == "hs") return by_integer<Comparison, ([](auto a, auto b) { return a >= b; })>(type);
	return nullptr;
}

// Those that end in u are true if an operand is NaN; the others are false.
static Run float_comparison(const std::string& how, const std::string& type) {
	if (how == "eq") return by_float<Comparison, ([](auto a, auto b) { return a == b; })>(type);
	if (how == "ne") return by_float<Comparison, ([](auto a, auto b) { return a < b || a > b; })>(type);
	if (how == "lt") return by_float<Comparison, ([](auto a, auto b) { return a < b; })>(type);
	if (how == "le") return by_float<Comparison, ([](auto a, auto b) { return a <= b; })>(type);
	if (how == "gt") return by_float<Comparison, ([](auto a, auto b) { return a > b; })>(type);
	if (how == "ge") return by_float<Comparison, ([](auto a, auto b) { return a >= b; })>(type);
	if (how == "equ") return by_float<Comparison, ([](auto a, auto b) { return !(a < b || a > b); })>(type);
	if (how == "neu") return by_float<Comparison, ([](auto a, auto b) { return !(a == b); })>(type);
	if (how == "ltu") return by_float<Comparison, ([](auto a, auto b) { return !(a >= b); })>(type);
	if (how == "leu") return by_float<Comparison, ([](auto a, auto b) { return !(a > b); })>(type);
	if (how == "gtu") return by_float<Comparison, ([](auto a, auto b) { return !(a <= b); })>(type);
	if (how == "geu") return by_float<Comparison, ([](auto a, auto b) { return !(a < b); })>(type);
	if (how == "num") return by_float<Comparison, ([](auto a, auto b) { return a == a && b == b; })>(type);
	if (how == "nan") return by_float<Comparison, ([](auto a, auto b) { return a != a || b != b; })>(type);
	return nullptr;
}

void decode_compare(Decoder& d) {
	Insn& i = d.insn;
	i.mode = (u8)(d.take_one({"and", "or", "xor"}) + 1);
	const std::string type = d.take_type(), how = d.take_last();
	const u8 width = width_of_type(type);
	const auto to = split(d.arg(0), '|');
	i.d = to[0] == "_" ? d.names().scratch(4).plane : d.named(to[0]).plane;
	i.n = (u8)to.size();
	if (i.n > 1) i.v[0] = d.named(to[1]).plane;
	i.a = d.source(1, width).plane, i.b = d.source(2, width).plane;
	if (i.mode != ALONE) i.c = d.predicate(3, i.flag);
	i.run = is_float(type) ? float_comparison(how, type) : integer_comparison(how, type);
}

// ---- selp

template <class T> static void select(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
	const u32* c = plane<u32>(w, i.c);
	each_lane(w, [&](int l) { d[l] = c[l] ? a[l] : b[l]; });
}

void decode_select(Decoder& d) {
	Insn& i = d.insn;
	const u8 width = width_of_type(d.take_type());
	d.destination(0);
	i.a = d.source(1, width).plane, i.b = d.source(2, width).plane, i.c = d.source(3, 4).plane;
	i.run = width == 8 ? select<u64> : width == 4 ? select<u32> : select<u16>;
}
