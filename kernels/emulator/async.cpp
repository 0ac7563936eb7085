//go:build ignore

// cp.async: the bytes move when the thread waits for their group, never earlier. Until
// then the destination holds NaNs and its cells are pending.
#include "decode.h"
#include "warp.h"

// d: nothing. n: bytes, c: plane of how many of them come from the source.
static void cp_async(Warp& w, const Insn& i) {
	u64 at[32];
	u32 reading = 0;
	each_lane(w, [&](int l) {
		const u64 destination = lane_address(w, i.address, l), source = lane_address(w, i.source_address, l);
		const u32 from_source = plane<u32>(w, i.c)[l];
		if (from_source > i.n) fail(LAUNCH_FAILED, "%s: cp.async copies %u of %u bytes", where(w, l).c_str(), from_source, i.n);
		if (source % i.n) fail(MISALIGNED, "%s: misaligned cp.async source", where(w, l).c_str());
		if (from_source) {
			resolve(w, l, GLOBAL_SPACE, source, from_source, READ, 1);
			at[l] = source;
			reading |= 1u << l;
		}
		memset(resolve(w, l, SHARED_SPACE, destination, i.n, WRITE, i.n), 0xff, i.n);
		set_pending(w, (u32)destination, i.n, true);
		w.open_copies[l].push_back({(u32)destination, source, i.n, (u8)from_source});
	});
	if (settings.stats) count_sectors(w.kernel->traffic.load_sectors, w.kernel->traffic.load_bytes, at, reading, i.n);
}

static void close_group(Warp& w, int lane) {
	w.copy_groups[lane].push_back(std::move(w.open_copies[lane]));
	w.open_copies[lane].clear();
}

static void cp_commit(Warp& w, const Insn&) {
	each_lane(w, [&](int l) { close_group(w, l); });
}

static void deliver(Warp& w, int lane, const Copy& c) {
	set_pending(w, c.destination, c.bytes, false);
	u8* p = resolve(w, lane, SHARED_SPACE, c.destination, c.bytes, WRITE, c.bytes);
	memset(p, 0, c.bytes);
	if (c.from_source) memcpy(p, resolve(w, lane, GLOBAL_SPACE, c.source, c.from_source, READ, 1), c.from_source);
}

// n: groups that may stay open; flag: wait for what no group holds, too.
static void cp_wait(Warp& w, const Insn& i) {
	each_lane(w, [&](int l) {
		if (i.flag) close_group(w, l);
		auto& groups = w.copy_groups[l];
		for (; groups.size() > i.n; groups.pop_front())
			for (const Copy& c : groups.front()) deliver(w, l, c);
	});
}

void decode_cp(Decoder& d) {
	Insn& i = d.insn;
	i.kind = CP_ASYNC;
	if (!d.take("async")) return;
	switch (d.take_one({"commit_group", "wait_group", "wait_all"})) {
	case 0: i.run = cp_commit; return;
	case 1: i.run = cp_wait, i.n = (u8)d.immediate(0); return;
	case 2: i.run = cp_wait, i.n = 0, i.flag = true; return;
	}
	const bool around_l1 = d.take_one({"ca", "cg"}) == 1;
	d.take_one({"L2::64B", "L2::128B", "L2::256B"});
	if (!d.take("shared") && !d.take("shared::cta")) return;
	if (!d.take("global")) return;
	i.address = d.address(0);
	i.source_address = d.address(1);
	i.n = (u8)d.immediate(2);
	if (i.n != 16 && (around_l1 || (i.n != 4 && i.n != 8))) d.refuse("cp.async copies 16 bytes, and with .ca also 4 or 8");
	i.c = d.count() > 3 ? d.source(3, 4).plane : d.names().constant(i.n, 4).plane;
	i.run = cp_async;
}
