//go:build ignore

// Loads, stores and atomics.
#include "decode.h"
#include "warp.h"

static Space take_space(Decoder& d) {
	switch (d.take_one({"global", "const", "shared", "shared::cta", "local", "param"})) {
	case 0: case 1: return GLOBAL_SPACE;
	case 2: case 3: return SHARED_SPACE;
	case 4: return LOCAL_SPACE;
	case 5: return PARAM_SPACE;
	default: return GENERIC;
	}
}

// Hints to caches and orders between launches' blocks, which are modelled by neither.
static void take_hints(Decoder& d) {
	d.take_one({"volatile", "relaxed", "acquire", "release", "weak", "acq_rel"});
	d.take_one({"gpu", "cta", "sys"});
	d.take_one({"ca", "cg", "cs", "lu", "cv", "wb", "wt"});
	d.take_one({"L1::evict_last", "L1::evict_first", "L1::no_allocate", "L1::evict_normal", "L1::evict_unchanged"});
	d.take_one({"L2::64B", "L2::128B", "L2::256B"});
}

static void note_traffic(Warp& w, const Insn& i, const u64* at) {
	if (!settings.stats) return;
	Traffic& t = w.kernel->traffic;
	const u32 bytes = i.width * i.n;
	if (i.kind == LD_GLOBAL) count_sectors(t.load_sectors, t.load_bytes, at, w.active, bytes);
	if (i.kind == ST_GLOBAL) count_sectors(t.store_sectors, t.store_bytes, at, w.active, bytes);
	if (i.kind != LD_SHARED && i.kind != ST_SHARED) return;
	u32 shared[32];
	each_lane(w, [&](int l) { shared[l] = (u32)at[l]; });
	count_banks(t, shared, w.active, bytes);
}

// ---- ld

static u64 sign_extend(u64 x, u8 width) {
	const int unused = 64 - 8 * width;
	return (u64)((i64)(x << unused) >> unused);
}

static inline u64 read_bytes(const u8* p, u8 width) {
	u64 x = 0;
	switch (width) {
	case 1: memcpy(&x, p, 1); break;
	case 2: memcpy(&x, p, 2); break;
	case 4: memcpy(&x, p, 4); break;
	default: memcpy(&x, p, 8);
	}
	return x;
}

static void put_loaded(Warp& w, const Insn& i, int lane, const u8* p) {
	for (int j = 0; j < i.n; j++, p += i.width) {
		const u64 x = read_bytes(p, i.width);
		put(w, i.v[j], i.dw, lane, i.is_signed ? sign_extend(x, i.width) : x);
	}
}

// Do all lanes read one place? Then two of them are enough to tell whether that is in
// order: at least one of any two is not the lane that may have written it.
static bool is_broadcast(const Warp& w, const Insn& i, const u64* at) {
	const u64 address = at[first_lane(w.active)];
	if (i.space == LOCAL_SPACE || (i.space == GENERIC && address < LOCAL + WINDOW)) return false;
	bool same = true;
	each_lane(w, [&](int l) { same &= at[l] == address; });
	return same;
}

static void load(Warp& w, const Insn& i) {
	u64 at[32] = {};
	const u32 bytes = i.width * i.n;
	const Access access = i.flag ? READ_ONLY : READ;
	each_lane(w, [&](int l) { at[l] = lane_address(w, i.address, l); });
	if (is_broadcast(w, i, at)) {
		const int first = first_lane(w.active), last = 31 - __builtin_clz(w.active);
		const u8* p = resolve(w, first, i.space, at[first], bytes, access, bytes);
		if (last != first) resolve(w, last, i.space, at[last], bytes, access, bytes);
		each_lane(w, [&](int l) { put_loaded(w, i, l, p); });
	} else
		each_lane(w, [&](int l) { put_loaded(w, i, l, resolve(w, l, i.space, at[l], bytes, access, bytes)); });
	note_traffic(w, i, at);
}

void decode_load(Decoder& d) {
	Insn& i = d.insn;
	i.space = take_space(d);
	take_hints(d);
	i.flag = d.take("nc");
	i.n = d.take_vector();
	const std::string type = d.take_type();
	i.width = width_of_type(type);
	i.is_signed = type[0] == 's';
	const auto list = d.list(0);
	if (list.size() != i.n) d.refuse("as many registers as elements are needed");
	for (int j = 0; j < i.n; j++) {
		const Register r = list[j] == "_" ? d.names().scratch(8) : d.named(list[j]);
		i.v[j] = r.plane, i.dw = r.width;
	}
	i.address = d.address(1);
	i.kind = i.space == SHARED_SPACE ? LD_SHARED : i.space == PARAM_SPACE ? ALU : LD_GLOBAL;
	i.run = load;
}

// ---- st

static bool same_values(Warp& w, const Insn& i, int lane, int other) {
	for (int j = 0; j < i.n; j++)
		if (get(w, i.v[j], i.dw, lane) != get(w, i.v[j], i.dw, other)) return false;
	return true;
}

// Lanes of one store that write the same bits to one place are no race.
static bool repeats(Warp& w, const Insn& i, int lane, const u64* at) {
	for (u32 rest = w.active & ((1u << lane) - 1); rest; rest &= rest - 1) {
		const int other = __builtin_ctz(rest);
		if (at[other] == at[lane] && same_values(w, i, lane, other)) return true;
	}
	return false;
}

static void store(Warp& w, const Insn& i) {
	u64 at[32];
	const u32 bytes = i.width * i.n;
	each_lane(w, [&](int l) {
		at[l] = lane_address(w, i.address, l);
		if (i.space != LOCAL_SPACE && repeats(w, i, l, at)) return;
		u8* p = resolve(w, l, i.space, at[l], bytes, WRITE, bytes);
		for (int j = 0; j < i.n; j++, p += i.width) {
			const u64 x = get(w, i.v[j], i.dw, l);
			memcpy(p, &x, i.width);
		}
	});
	note_traffic(w, i, at);
}

void decode_store(Decoder& d) {
	Insn& i = d.insn;
	i.space = take_space(d);
	take_hints(d);
	i.n = d.take_vector();
	i.width = width_of_type(d.take_type());
	i.address = d.address(0);
	const auto list = d.list(1);
	if (list.size() != i.n) d.refuse("as many registers as elements are needed");
	for (int j = 0; j < i.n; j++) {
		const Register r = d.operand(list[j], i.width);
		if (j > 0 && r.width != i.dw) d.refuse("operands of different sizes");
		i.v[j] = r.plane, i.dw = r.width;
	}
	i.kind = i.space == SHARED_SPACE ? ST_SHARED : ST_GLOBAL;
	i.run = store;
}

// ---- atom, red: the lanes take turns in a random order, so that sums of floats show what they are

static int turns(const Warp& w, int* order) {
	int n = 0;
	for (u32 rest = w.active; rest; rest &= rest - 1) order[n++] = __builtin_ctz(rest);
	if (settings.seed)
		for (int j = n - 1; j > 0; j--) std::swap(order[j], order[random64() % (j + 1)]);
	return n;
}

template <class T, auto F> static void atomic(Warp& w, const Insn& i) {
	int order[32];
	const int n = turns(w, order);
	for (int j = 0; j < n; j++) {
		const int l = order[j];
		T* p = (T*)resolve(w, l, i.space, lane_address(w, i.address, l), sizeof(T), ATOMIC_ACCESS, sizeof(T));
		const T old = *p;
		*p = F(old, plane<T>(w, i.b)[l], plane<T>(w, i.c)[l]);
		if (i.flag) plane<T>(w, i.d)[l] = old;
	}
}

template <auto F> static Run integer_atomic(const std::string& type) {
	if (type == "u32" || type == "b32") return atomic<u32, F>;
	if (type == "s32") return atomic<int, F>;
	if (type == "u64" || type == "b64") return atomic<u64, F>;
	if (type == "s64") return atomic<i64, F>;
	return nullptr;
}

static Run atomic_function(const std::string& what, const std::string& type) {
	constexpr auto add = [](auto old, auto b, auto) { return old + b; };
	if (what == "add" && type == "f32") return atomic<float, add>;
	if (what == "add" && type == "f64") return atomic<double, add>;
	if (what == "add") return integer_atomic<add>(type);
	if (what == "min") return integer_atomic<([](auto old, auto b, auto) { return b < old ? b : old; })>(type);
	if (what == "max") return integer_atomic<([](auto old, auto b, auto) { return b > old ? b : old; })>(type);
	if (what == "and") return integer_atomic<([](auto old, auto b, auto) { return old & b; })>(type);
	if (what == "or") return integer_atomic<([](auto old, auto b, auto) { return old | b; })>(type);
	if (what == "xor") return integer_atomic<([](auto old, auto b, auto) { return old ^ b; })>(type);
	if (what == "exch") return integer_atomic<([](auto, auto b, auto) { return b; })>(type);
	if (what == "cas") return integer_atomic<([](auto old, auto b, auto c) { return old == b ? c : old; })>(type);
	if (what == "inc" && type == "u32") return atomic<u32, ([](u32 old, u32 b, u32) { return old >= b ? 0 : old + 1; })>;
	return nullptr;
}

void decode_atomic(Decoder& d) {
	Insn& i = d.insn;
	i.flag = d.name() == "atom";
	i.space = take_space(d);
	take_hints(d);
	const std::string type = d.take_type(), what = d.take_last();
	i.width = width_of_type(type);
	size_t n = 0;
	if (i.flag) d.destination(n++);
	i.address = d.address(n++);
	i.b = d.source(n++, i.width).plane;
	if (d.count() > n) i.c = d.source(n, i.width).plane;
	i.kind = ATOMIC;
	i.run = atomic_function(what, type);
}
