// What all parts of the emulator share: integers, failures, settings, random numbers.
#pragma once
#include <cstdint>
#include <string>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

// Results of the driver's functions, by CUDA's numbers.
enum Result {
	OK = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201,
	NO_BINARY_FOR_GPU = 209,
	INVALID_PTX = 218,
	INVALID_HANDLE = 400,
	NOT_FOUND = 500,
	NOT_READY = 600,
	ILLEGAL_ADDRESS = 700,
	LAUNCH_RESOURCES = 701,
	MISALIGNED = 716,
	LAUNCH_FAILED = 719,
};

// Thrown wherever something goes wrong; the driver's entry points turn it into a result.
struct Failure {
	int code;
	std::string text;
};
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));

// The environment variables EMULATOR_*, read once.
struct Settings {
	u64 seed;         // order of warps, blocks and lanes of atomics; 0: in order
	bool check;       // look for races and for memory that nobody wrote
	bool truncate;    // tensor cores that cut low bits off where the manual allows it
	double jitter;    // relative error that the approximate functions are given
	u64 limit;        // instructions of a block, so that endless loops end
	int capability;   // 80 for 8.0
	bool lazy;        // streams do their work as late as the API allows
	u64 memory;       // bytes of the device
	const char* stats;  // file for the table of traffic.cpp; null: none
};
extern const Settings settings;

u64 random64();      // the next of a sequence that the seed fixes
u64 hash64(u64 x);  // the same for the same x, random otherwise
