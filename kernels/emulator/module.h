// A module as the parser leaves it: kernels, each a list of decoded instructions.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "emulator.h"

struct Warp;
struct Insn;
typedef void (*Run)(Warp&, const Insn&);

// A register is a plane: the values of its 32 lanes side by side, at this byte of the
// warp's registers. Constants and special registers are planes that are filled at launch.
typedef u32 Plane;

enum Space : u8 { GENERIC, GLOBAL_SPACE, SHARED_SPACE, LOCAL_SPACE, PARAM_SPACE };
enum Flow : u8 { NEXT, JUMP, EXIT };

// Kinds of instructions, for the table of traffic.cpp.
enum Kind : u8 { ALU, FLOAT, SFU, MMA, LDMATRIX, CP_ASYNC, LD_GLOBAL, ST_GLOBAL, LD_SHARED, ST_SHARED, ATOMIC, SYNC, SHUFFLE, BRANCH, KINDS };

// A memory operand: register plus offset.
struct Address {
	Plane plane = 0;
	u8 width = 0;  // of the register; 0: there is none
	i64 offset = 0;
};

// One instruction. What a field means beyond its name is up to `run`.
struct Insn {
	Run run = nullptr;                             // null: a branch, which the scheduler does
	Plane d = 0, a = 0, b = 0, c = 0, e = 0;       // destination and sources
	Plane v[4] = {}, v2[4] = {}, v3[4] = {};       // lists of registers
	Address address, source_address;               // the second is that of a copy's source
	int pred = -1;                                 // plane of the guard; -1: none
	bool negate = false;                           // run where the guard is false
	bool is_signed = false, flag = false;
	u8 n = 1;                                      // elements of a vector
	u8 width = 4;                                  // bytes of an element in memory
	u8 dw = 4, aw = 4;                             // bytes of the registers d and a
	u8 dt = 0, at = 0;                             // types of d and a (convert.cpp)
	u8 mode = 0;
	Space space = GENERIC;
	Kind kind = ALU;
	Flow flow = NEXT;
	u32 target = 0;                                // of a jump
	u32 line = 0;                                  // in the PTX
	u32 file = 0, source_line = 0;                 // in the source, from .loc; 0: unknown
};

// What a kernel has done since the module was loaded.
struct Traffic {
	u64 count[KINDS] = {};                     // warp instructions
	u64 launches = 0, blocks = 0;
	u64 load_bytes = 0, load_sectors = 0;      // of global memory, in sectors of 32 bytes
	u64 store_bytes = 0, store_sectors = 0;
	u64 wavefronts = 0, least_wavefronts = 0;  // of shared memory: done, and without bank conflicts
	double seconds = 0;
};

struct Constant {
	Plane plane;
	u8 width;
	u64 value;
};
struct Special {
	Plane plane;
	u8 width;
	std::string name;  // "%tid.x", ...; DYNAMIC_SHARED
};
inline const char* const DYNAMIC_SHARED = "dynamic shared memory";

struct Parameter {
	u32 offset, size;
};

struct Kernel {
	std::string name;
	std::vector<Parameter> params;
	u32 param_bytes = 0, static_shared = 0, local_bytes = 0, register_bytes = 0;
	u32 max_threads = 1024;
	u32 max_dynamic = 48 << 10;  // bytes of dynamic shared memory that a launch may ask for
	std::vector<Insn> code;
	std::vector<Constant> constants;
	std::vector<Special> specials;
	const std::vector<std::string>* files = nullptr;
	Traffic traffic;
};

struct Module {
	std::map<std::string, std::unique_ptr<Kernel>> kernels;
	std::map<std::string, std::pair<u64, u64>> globals;  // address, size
	std::vector<std::string> files;                      // of .loc
};

// Fails on anything that it does not know, with the line.
std::unique_ptr<Module> parse(const std::string& ptx);
