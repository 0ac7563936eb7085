//go:build ignore

// What lanes and warps do together: shuffles, votes, barriers, fences.
#include "decode.h"
#include "numeric.h"

// e is the plane of the member mask: every lane must name exactly the lanes that are here.
static void check_members(Warp& w, const Insn& i, const char* what) {
	each_lane(w, [&](int l) {
		const u32 named = plane<u32>(w, i.e)[l];
		if ((named & w.live) == w.active && (named >> l & 1)) return;
		fail(LAUNCH_FAILED, "%s: %s names the lanes %08x, but %08x are here", where(w, l).c_str(), what, named, w.active);
	});
}

// ---- shfl.sync: mode says which lane is read, b by how much it is off, c holds the
// segment mask (bits 8 to 12) and the clamp (bits 0 to 4)

enum ShuffleMode { BUTTERFLY, DOWN, UP, INDEX };

static void shuffle(Warp& w, const Insn& i) {
	check_members(w, i, "shfl.sync");
	u32 in[32];
	memcpy(in, plane<u32>(w, i.a), sizeof in);
	each_lane(w, [&](int l) {
		const int by = plane<u32>(w, i.b)[l] & 31;
		const u32 c = plane<u32>(w, i.c)[l];
		const int clamp = c & 31, segment = c >> 8 & 31;
		const int lowest = l & segment, bound = lowest | (clamp & ~segment);
		int from = l;
		switch (i.mode) {
		case BUTTERFLY: from = l ^ by; break;
		case DOWN: from = l + by; break;
		case UP: from = l - by; break;
		case INDEX: from = lowest | (by & ~segment); break;
		}
		const bool inside = i.mode == UP ? from >= bound : from <= bound;
		if (!inside) from = l;
		if (!(w.active >> from & 1)) report(w, l, "shfl.sync reads a lane that does not take part");
		plane<u32>(w, i.d)[l] = in[from];
		if (i.flag) plane<u32>(w, i.v[0])[l] = inside;
	});
}

void decode_shuffle(Decoder& d) {
	Insn& i = d.insn;
	i.kind = SHUFFLE;
	if (!d.take("sync") || !d.take("b32")) return;
	const int mode = d.take_one({"bfly", "down", "up", "idx"});
	if (mode < 0) return;
	i.mode = (u8)mode;
	const auto to = split(d.arg(0), '|');
	i.d = d.named(to[0]).plane;
	i.flag = to.size() > 1;
	if (i.flag) i.v[0] = d.named(to[1]).plane;
	i.a = d.source(1, 4).plane, i.b = d.source(2, 4).plane, i.c = d.source(3, 4).plane, i.e = d.source(4, 4).plane;
	i.run = shuffle;
}

// ---- vote.sync

enum VoteMode { ALL, ANY, BALLOT };

static void vote(Warp& w, const Insn& i) {
	check_members(w, i, "vote.sync");
	u32 yes = 0;
	each_lane(w, [&](int l) { yes |= (u32)((plane<u32>(w, i.a)[l] != 0) != i.flag) << l; });
	const u32 result = i.mode == ALL ? yes == w.active : i.mode == ANY ? yes != 0 : yes;
	each_lane(w, [&](int l) { plane<u32>(w, i.d)[l] = result; });
}

void decode_vote(Decoder& d) {
	Insn& i = d.insn;
	i.kind = SHUFFLE;
	if (!d.take("sync")) return;
	const int mode = d.take_one({"all", "any", "ballot"});
	if (mode < 0 || !d.take(mode == BALLOT ? "b32" : "pred")) return;
	i.mode = (u8)mode;
	d.destination(0);
	i.a = d.predicate(1, i.flag);
	i.e = d.source(2, 4).plane;
	i.run = vote;
}

// ---- redux.sync: one integer from those of all lanes

template <class T, auto F> struct Reduction {
	static void run(Warp& w, const Insn& i) {
		check_members(w, i, "redux.sync");
		const T* a = plane<T>(w, i.a);
		T result = a[first_lane(w.active)];
		for (u32 rest = w.active & (w.active - 1); rest; rest &= rest - 1) result = (T)F(result, a[__builtin_ctz(rest)]);
		each_lane(w, [&](int l) { plane<T>(w, i.d)[l] = result; });
	}
};

static Run reduction_function(const std::string& what, const std::string& type) {
	if (width_of_type(type) != 4 || is_float(type)) return nullptr;
	if (what == "add") return by_integer<Reduction, ([](auto a, auto b) { return a + b; })>(type);
	if (what == "min") return by_integer<Reduction, ([](auto a, auto b) { return a < b ? a : b; })>(type);
	if (what == "max") return by_integer<Reduction, ([](auto a, auto b) { return a > b ? a : b; })>(type);
	if (what == "and") return by_integer<Reduction, ([](auto a, auto b) { return a & b; })>(type);
	if (what == "or") return by_integer<Reduction, ([](auto a, auto b) { return a | b; })>(type);
	if (what == "xor") return by_integer<Reduction, ([](auto a, auto b) { return a ^ b; })>(type);
	return nullptr;
}

void decode_reduction(Decoder& d) {
	Insn& i = d.insn;
	i.kind = SHUFFLE;
	if (!d.take("sync")) return;
	const std::string type = d.take_type(), what = d.take_last();
	d.destination(0);
	i.a = d.source(1, 4).plane;
	i.e = d.source(2, 4).plane;
	i.run = reduction_function(what, type);
}

// ---- activemask

static void activemask(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) { plane<u32>(w, i.d)[l] = w.active; });
}

void decode_activemask(Decoder& d) {
	if (!d.take("b32")) return;
	d.destination(0);
	d.insn.run = activemask;
}

// ---- barriers

static void sync_warp(Warp& w, const Insn& i) {
	check_members(w, i, "__syncwarp");
	w.clock++;
}

// The warp stops here; the scheduler lets it go when all have come.
static void sync_block(Warp& w, const Insn& i) {
	const int l = first_lane(w.active);
	if (w.active != w.live) fail(LAUNCH_FAILED, "%s: __syncthreads in divergent code: lanes %08x of %08x", where(w, l).c_str(), w.active, w.live);
	w.waiting = (int)plane<u32>(w, i.a)[l];
	w.wait_threads = i.flag ? plane<u32>(w, i.b)[l] : 0;
}

void decode_barrier(Decoder& d) {
	Insn& i = d.insn;
	i.kind = SYNC;
	d.take("cta");
	if (d.take("warp")) {
		if (!d.take("sync")) return;
		i.e = d.source(0, 4).plane;
		i.run = sync_warp;
		return;
	}
	if (!d.take("sync")) return;
	d.take("aligned");
	i.a = d.source(0, 4).plane;
	i.flag = d.count() > 1;
	if (i.flag) i.b = d.source(1, 4).plane;
	i.run = sync_block;
}

// ---- what has no effect here: memory is coherent, and time is not modelled

static void nothing(Warp&, const Insn&) {}

void decode_fence(Decoder& d) {
	d.insn.kind = SYNC;
	d.take_one({"gl", "cta", "sys", "gpu"});
	d.take_one({"sc", "acq_rel"});
	d.take_one({"cta", "sys", "gpu"});
	if (d.name() == "prefetch") d.take_one({"global"}), d.take_one({"L1", "L2"});
	if (d.name() == "nanosleep") d.take("u32");
	d.insn.run = nothing;
}

static void trap(Warp& w, const Insn&) { fail(LAUNCH_FAILED, "%s: trap", where(w, first_lane(w.active)).c_str()); }

void decode_trap(Decoder& d) { d.insn.run = trap; }
