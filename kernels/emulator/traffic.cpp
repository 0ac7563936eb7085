//go:build ignore

// Counts what a kernel asks of the memory: sectors of global memory, wavefronts of shared
// memory. The table, one line a kernel, goes into the file that EMULATOR_STATS names.
#include <algorithm>
#include <cstdio>

#include "warp.h"

// Shared memory serves 32 banks of 4 bytes per wavefront. Wide accesses take more than one
// by nature; every further one is a conflict.
void count_banks(Traffic& t, const u32* address, u32 lanes, u32 bytes) {
	const u32 per_wavefront = bytes <= 4 ? 32 : 128 / bytes;
	for (u32 first = 0; first < 32; first += per_wavefront) {
		u32 words[128], n = 0, depth[32] = {}, worst = 0;
		for (u32 l = first; l < first + per_wavefront; l++) {
			if (!(lanes >> l & 1)) continue;
			for (u32 word = address[l] / 4; word <= (address[l] + bytes - 1) / 4; word++) {
				if (std::find(words, words + n, word) != words + n) continue;
				words[n++] = word;
				worst = std::max(worst, ++depth[word % 32]);
			}
		}
		t.wavefronts += worst;
		t.least_wavefronts += n > 0;
	}
}

// A warp's access costs the sectors of 32 bytes that it touches. Neighbouring lanes share
// sectors; lanes far apart that do are counted twice.
void count_sectors(u64& sectors, u64& bytes, const u64* address, u32 lanes, u32 size) {
	constexpr u32 RECENT = 4;
	u64 seen[64];
	u32 n = 0;
	for (u32 rest = lanes; rest; rest &= rest - 1) {
		const u64 a = address[__builtin_ctz(rest)];
		for (u64 sector = a / 32; sector <= (a + size - 1) / 32; sector++) {
			const u64* recent = seen + (n > RECENT ? n - RECENT : 0);
			if (std::find(recent, (const u64*)seen + n, sector) == seen + n) seen[n++] = sector;
		}
		bytes += size;
	}
	sectors += n;
}

static double ratio(double a, double b, double otherwise) { return b > 0 ? a / b : otherwise; }

static void print_kernel(FILE* file, const Kernel& k) {
	const Traffic& t = k.traffic;
	u64 total = 0;
	for (u64 count : t.count) total += count;
	fprintf(file, "%-28s %6llu %10llu", k.name.c_str(), (unsigned long long)t.blocks, (unsigned long long)total);
	for (Kind kind : {MMA, LDMATRIX, ALU, FLOAT, SFU, SHUFFLE, SYNC}) fprintf(file, " %5.1f%%", 100 * ratio((double)t.count[kind], (double)total, 0));
	fprintf(file, " %9.3f %9.3f %6.0f%% %6.0f%% %6.2f %8.0f\n", (double)t.load_bytes / 1e6, (double)t.store_bytes / 1e6,
	        100 * ratio((double)t.load_bytes, 32 * (double)t.load_sectors, 1), 100 * ratio((double)t.store_bytes, 32 * (double)t.store_sectors, 1),
	        ratio((double)t.wavefronts, (double)t.least_wavefronts, 1), ratio((double)total * 32 / 1e6, t.seconds, 0));
}

void print_traffic(const std::vector<Kernel*>& kernels) {
	if (!settings.stats) return;
	FILE* file = fopen(settings.stats, "w");
	if (!file) return;
	fprintf(file, "%-28s %6s %10s %6s %6s %6s %6s %6s %6s %6s %9s %9s %7s %7s %6s %8s\n", "kernel", "blocks", "warp insns", "mma", "ldmat", "alu", "float", "sfu",
	        "shfl", "sync", "read MB", "write MB", "read", "write", "banks", "M lane/s");
	for (const Kernel* k : kernels)
		if (k->traffic.launches) print_kernel(file, *k);
	fclose(file);
}
