//go:build ignore

// Runs the blocks of a launch one after another, in a random order, and the warps of a
// block in turns of random length: what is not ordered by the kernel comes in any order.
#include <algorithm>
#include <chrono>

#include "order.h"
#include "warp.h"

// ---- lanes: those with the lowest pc go first, so that branches meet again

static void regroup(Warp& w) {
	u32 lowest = ~0u;
	for (u32 rest = w.live; rest; rest &= rest - 1) lowest = std::min(lowest, w.lane_pc[__builtin_ctz(rest)]);
	w.active = 0, w.join = ~0u, w.pc = lowest;
	for (u32 rest = w.live; rest; rest &= rest - 1) {
		const int l = __builtin_ctz(rest);
		if (w.lane_pc[l] == lowest) w.active |= 1u << l;
		else w.join = std::min(w.join, w.lane_pc[l]);
	}
}

static void park(Warp& w, u32 lanes, u32 pc) {
	for (u32 rest = lanes; rest; rest &= rest - 1) w.lane_pc[__builtin_ctz(rest)] = pc;
}

static u32 guarded(Warp& w, const Insn& i) {
	if (i.pred < 0) return w.active;
	const u32* p = plane<u32>(w, (Plane)i.pred);
	u32 lanes = 0;
	for (int l = 0; l < 32; l++) lanes |= (u32)((p[l] != 0) != i.negate) << l;
	return lanes & w.active;
}

static void jump(Warp& w, u32 taking, u32 target) {
	if (taking == w.active) {
		w.pc = target;
		if (w.join == ~0u) return;
		park(w, w.active, w.pc);
		regroup(w);
	} else if (taking == 0) {
		w.pc++;
	} else {
		park(w, taking, target);
		park(w, w.active & ~taking, w.pc + 1);
		regroup(w);
	}
}

static void leave(Warp& w, u32 leaving) {
	park(w, w.active & ~leaving, w.pc + 1);
	w.live &= ~leaving;
	if (w.live) regroup(w);
}

// Runs the warp until it waits, ends, or has done as many instructions; returns how many.
static u64 run(Warp& w, u64 most) {
	const Insn* code = w.kernel->code.data();
	Traffic& traffic = w.kernel->traffic;
	u64 done = 0;
	for (; done < most && w.live && w.waiting < 0; done++) {
		if (w.pc >= w.join) {
			park(w, w.active, w.pc);
			regroup(w);
		}
		const Insn& i = code[w.pc];
		const u32 active = w.active, lanes = guarded(w, i);
		w.current = &i;
		traffic.count[i.kind]++;
		if (i.flow == JUMP) jump(w, lanes, i.target);
		else if (i.flow == EXIT) leave(w, lanes);
		else {
			w.pc++;
			if (!lanes) continue;
			w.active = lanes;
			i.run(w, i);
			w.active = active;
		}
	}
	return done;
}

// ---- warps

// What each warp knows after the barrier is what any of them knew before.
static void pass_barrier(Block& b, int id) {
	std::vector<u32> joined(b.warps.size(), 0);
	for (Warp& w : b.warps) {
		if (w.waiting != id) continue;
		w.seen[w.index]++;
		for (size_t j = 0; j < joined.size(); j++) joined[j] = std::max(joined[j], w.seen[j]);
	}
	for (Warp& w : b.warps) {
		if (w.waiting != id) continue;
		w.seen = joined;
		w.waiting = -1;
		w.clock++;
	}
}

// Are all there that the barrier of this warp is for? Fails if they do not mean the same one.
static bool complete(const Block& b, const Warp& first) {
	u32 arrived = 0, live = 0;
	for (const Warp& w : b.warps) {
		live += w.live != 0;
		if (w.waiting != first.waiting) continue;
		arrived++;
		if (w.wait_threads != first.wait_threads)
			fail(LAUNCH_FAILED, "%s: warps disagree on the size of barrier %d", where(w, 0).c_str(), w.waiting);
	}
	if (arrived < (first.wait_threads ? first.wait_threads / 32 : live)) return false;
	for (const Warp& w : b.warps)
		if (w.waiting == first.waiting && w.pc != first.pc && !first.wait_threads)
			report(w, first_lane(w.live), "warps of the block meet at different __syncthreads");
	return true;
}

static void release_barriers(Block& b) {
	for (Warp& w : b.warps)
		if (w.waiting >= 0 && complete(b, w)) pass_barrier(b, w.waiting);
}

static void run_block(Block& b) {
	constexpr u64 LONGEST_TURN = 4000;
	std::vector<Warp*> ready;
	for (u64 steps = 0;;) {
		ready.clear();
		const Warp* stuck = nullptr;
		for (Warp& w : b.warps) {
			if (w.live && w.waiting < 0) ready.push_back(&w);
			else if (w.live) stuck = &w;
		}
		if (ready.empty() && !stuck) return;
		if (ready.empty())
			fail(LAUNCH_FAILED, "%s: deadlock: this warp waits at barrier %d and nobody can move", where(*stuck, first_lane(stuck->live)).c_str(), stuck->waiting);
		Warp& w = *ready[settings.seed ? random64() % ready.size() : 0];
		steps += run(w, settings.seed ? 1 + random64() % LONGEST_TURN : settings.limit);
		if (steps >= settings.limit && w.live && w.waiting < 0)
			fail(LAUNCH_FAILED, "%s: more than %llu instructions", where(w, first_lane(w.active)).c_str(), (unsigned long long)settings.limit);
		release_barriers(b);
	}
}

// ---- blocks

static u32 special_value(const Block& b, const std::string& name, u32 thread) {
	const u32 lane = thread % 32;
	const Dim tid = {thread % b.dim.x, thread / b.dim.x % b.dim.y, thread / b.dim.x / b.dim.y};
	const auto axis = [&](const Dim& d) { return name.back() == 'x' ? d.x : name.back() == 'y' ? d.y : d.z; };
	if (name == DYNAMIC_SHARED) return SHARED_BASE + b.dynamic_at;
	if (name.find("%tid") == 0) return axis(tid);
	if (name.find("%ntid") == 0) return axis(b.dim);
	if (name.find("%ctaid") == 0) return axis(b.id);
	if (name.find("%nctaid") == 0) return axis(b.grid);
	if (name == "%laneid") return lane;
	if (name == "%warpid") return thread / 32;
	if (name == "%lanemask_eq") return 1u << lane;
	if (name == "%lanemask_lt") return (1u << lane) - 1;
	if (name == "%lanemask_le") return (2u << lane) - 1;
	if (name == "%lanemask_gt") return ~((2u << lane) - 1);
	if (name == "%lanemask_ge") return ~((1u << lane) - 1);
	return 0;  // %smid
}

static void reset(Warp& w, Block& b, u32 index, u8* registers) {
	const Kernel& k = *b.kernel;
	w.registers = registers, w.block = &b, w.kernel = b.kernel, w.index = index;
	const u32 lanes = std::min(32u, b.threads - index * 32);
	w.live = w.active = lanes == 32 ? ~0u : (1u << lanes) - 1;
	w.pc = 0, w.join = ~0u, w.waiting = -1, w.clock = 1, w.current = k.code.data();
	w.seen.assign(b.warps.size(), 0);
	w.seen[index] = 1;
	w.local.assign((size_t)k.local_bytes * 32, 0xff);
	for (int l = 0; l < 32; l++) {
		w.open_copies[l].clear();
		w.copy_groups[l].clear();
		for (const Constant& c : k.constants) put(w, c.plane, c.width, l, c.value);
		for (const Special& s : k.specials) put(w, s.plane, s.width, l, special_value(b, s.name, index * 32 + l));
	}
}

static std::vector<u64> block_order(u64 blocks) {
	std::vector<u64> order(blocks);
	for (u64 j = 0; j < blocks; j++) order[j] = j;
	if (settings.seed)
		for (u64 j = blocks - 1; j > 0; j--) std::swap(order[j], order[random64() % (j + 1)]);
	return order;
}

void check_launch(const Kernel& k, Dim grid, Dim block, u32 dynamic_shared) {
	constexpr u32 MOST_THREADS = 1024, MOST_BLOCKS_YZ = 65535;
	const u32 threads = block.x * block.y * block.z;
	if (!threads || threads > MOST_THREADS || threads > k.max_threads)
		fail(LAUNCH_RESOURCES, "%s: %u threads, compiled for %u", k.name.c_str(), threads, k.max_threads);
	if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffff || grid.y > MOST_BLOCKS_YZ || grid.z > MOST_BLOCKS_YZ)
		fail(INVALID_VALUE, "%s: grid (%u,%u,%u)", k.name.c_str(), grid.x, grid.y, grid.z);
	if (dynamic_shared > k.max_dynamic)
		fail(INVALID_VALUE, "%s: %u bytes of dynamic shared memory, allowed are %u: cuFuncSetAttribute is missing", k.name.c_str(), dynamic_shared, k.max_dynamic);
}

void launch(Kernel& k, Dim grid, Dim dim, u32 dynamic_shared, const std::vector<u8>& params) {
	constexpr u32 DYNAMIC_ALIGNMENT = 128;
	const auto begin = std::chrono::steady_clock::now();
	const u32 threads = dim.x * dim.y * dim.z;

	const u64 blocks = (u64)grid.x * grid.y * grid.z;
	Block b = {};
	b.kernel = &k, b.grid = grid, b.dim = dim, b.params = &params, b.threads = threads;
	b.first_serial = take_serials((u32)blocks);
	b.settled = settled();
	b.dynamic_at = (k.static_shared + DYNAMIC_ALIGNMENT - 1) / DYNAMIC_ALIGNMENT * DYNAMIC_ALIGNMENT;
	b.shared_bytes = dynamic_shared ? b.dynamic_at + dynamic_shared : k.static_shared;
	b.warps.resize((threads + 31) / 32);
	constexpr size_t LINE = 64;  // planes are aligned for vectors
	std::vector<u8> registers((size_t)k.register_bytes * b.warps.size() + LINE);
	u8* aligned = (u8*)(((u64)registers.data() + LINE - 1) / LINE * LINE);

	take_reports();
	for (u64 j : block_order(blocks)) {
		b.serial = b.first_serial + (u32)j;
		b.id = {(u32)(j % grid.x), (u32)(j / grid.x % grid.y), (u32)(j / grid.x / grid.y)};
		b.shared.assign(b.shared_bytes + 16, 0xff);
		if (settings.check) b.cells.assign(b.shared_bytes / GRANULE + 8, Cell{});
		for (u32 x = 0; x < b.warps.size(); x++) reset(b.warps[x], b, x, aligned + (size_t)x * k.register_bytes);
		run_block(b);
	}
	k.traffic.launches++, k.traffic.blocks += blocks;
	k.traffic.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
	if (u32 n = take_reports()) fail(LAUNCH_FAILED, "%s: %u reports", k.name.c_str(), n);
}
