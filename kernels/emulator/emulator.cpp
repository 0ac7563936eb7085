//go:build ignore

#include "emulator.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

static std::string vtext(const char* format, va_list arguments) {
	char buffer[2000];
	vsnprintf(buffer, sizeof buffer, format, arguments);
	return buffer;
}

std::string text(const char* format, ...) {
	va_list arguments;
	va_start(arguments, format);
	std::string s = vtext(format, arguments);
	va_end(arguments);
	return s;
}

void fail(int code, const char* format, ...) {
	va_list arguments;
	va_start(arguments, format);
	std::string s = vtext(format, arguments);
	va_end(arguments);
	throw Failure{code, s};
}

static u64 number(const char* name, u64 otherwise) {
	const char* s = getenv(name);
	return s ? strtoull(s, nullptr, 0) : otherwise;
}

const Settings settings = {
	.seed = number("EMULATOR_SEED", 1),
	.check = number("EMULATOR_CHECK", 1) != 0,
	.truncate = number("EMULATOR_TRUNCATE", 0) != 0,
	.jitter = (double)number("EMULATOR_JITTER", 0) * 0x1p-23,
	.limit = number("EMULATOR_LIMIT", 4'000'000'000),
	.capability = (int)number("EMULATOR_CC", 80),
	.lazy = number("EMULATOR_LAZY", 1) != 0,
	.memory = number("EMULATOR_MEMORY", 8ull << 30),
	.stats = getenv("EMULATOR_STATS"),
};

// SplitMix64 (Steele, Lea, Flood 2014), the generator and what it does to each state.
constexpr u64 STEP = 0x9E3779B97F4A7C15;

static u64 mix(u64 z) {
	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
	z = (z ^ z >> 27) * 0x94D049BB133111EB;
	return z ^ z >> 31;
}

u64 random64() {
	static u64 state = settings.seed * STEP;
	return mix(state += STEP);
}

u64 hash64(u64 x) { return mix((x + 1) * STEP ^ mix(settings.seed)); }
