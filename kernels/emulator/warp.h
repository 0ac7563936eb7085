// The state of a block while it runs, and what instructions work with.
#pragma once
#include <cstring>
#include <deque>

#include "memory.h"
#include "module.h"

struct Block;

// A cp.async that has been issued and not yet been waited for.
struct Copy {
	u32 destination;  // in shared memory
	u64 source;
	u8 bytes, from_source;  // what lies behind from_source is filled with zeros
};

struct Warp {
	u8* registers;
	Block* block;
	Kernel* kernel;
	u32 index;
	const Insn* current = nullptr;

	// Control flow: the active lanes are at pc; the other live lanes wait at their own
	// lane_pc, the nearest of which is join. Where it is reached, lanes are grouped anew.
	u32 active = 0, live = 0, pc = 0, join = ~0u, lane_pc[32];

	int waiting = -1;      // barrier; -1: none
	u32 wait_threads = 0;  // that the barrier is for; 0: all

	// Time: this warp's clock advances at each synchronization within it, seen[index] at
	// each barrier, and seen[w] is how much of warp w happened before now.
	u16 clock = 1;
	std::vector<u32> seen;

	std::vector<u8> local;  // [lane][local_bytes]
	std::vector<Copy> open_copies[32];
	std::deque<std::vector<Copy>> copy_groups[32];
};

struct Dim {
	u32 x, y, z;
};

struct Block {
	Kernel* kernel;
	Dim grid, dim, id;
	u32 serial;        // unique over all launches, from 1
	u32 first_serial;  // of the blocks of this launch
	u32 settled;       // what has lower numbers comes before this launch
	u32 threads, shared_bytes, dynamic_at;
	std::vector<u8> shared;
	std::vector<Cell> cells;  // of shared memory
	const std::vector<u8>* params;
	std::vector<Warp> warps;
};

// Fails if the device would refuse such a launch.
void check_launch(const Kernel& k, Dim grid, Dim block, u32 dynamic_shared);
// Runs one that check_launch has let pass.
void launch(Kernel& k, Dim grid, Dim block, u32 dynamic_shared, const std::vector<u8>& params);

// ---- registers

template <class T> inline T* plane(Warp& w, Plane at) { return (T*)(w.registers + at); }

inline u64 get(Warp& w, Plane at, u8 width, int lane) {
	if (width == 8) return plane<u64>(w, at)[lane];
	if (width == 4) return plane<u32>(w, at)[lane];
	return plane<u16>(w, at)[lane];
}
inline void put(Warp& w, Plane at, u8 width, int lane, u64 value) {
	if (width == 8) plane<u64>(w, at)[lane] = value;
	else if (width == 4) plane<u32>(w, at)[lane] = (u32)value;
	else plane<u16>(w, at)[lane] = (u16)value;
}

// each_lane calls f for every active lane; the loop over a full warp is there to be vectorized.
template <class F> inline void each_lane(const Warp& w, F f) {
	const u32 active = w.active;
	if (active == ~0u) {
		for (int lane = 0; lane < 32; lane++) f(lane);
		return;
	}
	for (u32 rest = active; rest; rest &= rest - 1) f(__builtin_ctz(rest));
}
inline int first_lane(u32 lanes) { return lanes ? __builtin_ctz(lanes) : 0; }

// ---- mistakes. A report is printed and fails the launch when it ends; fail stops it at once.

std::string where(const Warp& w, int lane);
void report(const Warp& w, int lane, const char* what);
u32 take_reports();  // how many there were since the last call
void need_whole_warp(const Warp& w, const char* what);

// ---- memory (shadow.cpp)

enum Access : u8 { READ, READ_ONLY, WRITE, ATOMIC_ACCESS };  // READ_ONLY: through ld.nc

inline u64 lane_address(Warp& w, const Address& a, int lane) {
	return (a.width ? get(w, a.plane, a.width, lane) : 0) + (u64)a.offset;
}

// Checks an access of a lane and returns the host's address of its bytes.
u8* resolve(Warp& w, int lane, Space space, u64 address, u32 bytes, Access access, u32 align);
void set_pending(Warp& w, u32 shared_address, u32 bytes, bool pending);

// ---- traffic.cpp

void count_banks(Traffic& t, const u32* address, u32 lanes, u32 bytes);
void count_sectors(u64& sectors, u64& bytes, const u64* address, u32 lanes, u32 size);
void print_traffic(const std::vector<Kernel*>& kernels);

// ---- number formats (convert.cpp)

inline float float_from_bits(u32 u) {
	float x;
	memcpy(&x, &u, 4);
	return x;
}
inline float from_bf16(u16 h) { return float_from_bits((u32)h << 16); }
float from_half(u16 h);
u16 to_bf16(float x);
u16 to_half(float x);
