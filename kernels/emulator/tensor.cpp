//go:build ignore

// Tensor cores: ldmatrix, stmatrix and mma.sync m16n8k16 with bf16 or f16 factors and
// float sums. The fragment layouts are those of the PTX manual, section "Matrix
// Fragments for mma.m16n8k16": lane l is in group g = l/4 and has number t = l%4 in it.
#include <cmath>

#include "decode.h"
#include "warp.h"

// ---- ldmatrix, stmatrix: lane 8*m+r has the address of row r of matrix m; afterwards
// lane l holds elements 2t and 2t+1 of row g of each, or of its transpose

static u32 pair_of(const u16 tile[8][8], int l, bool transposed) {
	const int g = l / 4, t = l % 4 * 2;
	return transposed ? tile[t][g] | (u32)tile[t + 1][g] << 16 : tile[g][t] | (u32)tile[g][t + 1] << 16;
}

static void set_pair(u16 tile[8][8], int l, bool transposed, u32 value) {
	const int g = l / 4, t = l % 4 * 2;
	(transposed ? tile[t][g] : tile[g][t]) = (u16)value;
	(transposed ? tile[t + 1][g] : tile[g][t + 1]) = (u16)(value >> 16);
}

template <bool STORE> static void move_matrices(Warp& w, const Insn& i) {
	need_whole_warp(w, STORE ? "stmatrix" : "ldmatrix");
	for (int m = 0; m < i.n; m++) {
		u16 tile[8][8];
		u32 rows[32] = {};
		u32* values = plane<u32>(w, i.v[m]);
		if (STORE)
			for (int l = 0; l < 32; l++) set_pair(tile, l, i.flag, values[l]);
		for (int r = 0; r < 8; r++) {
			const int l = m * 8 + r;
			const u64 address = lane_address(w, i.address, l);
			rows[r] = (u32)address;
			u8* p = resolve(w, l, SHARED_SPACE, address, 16, STORE ? WRITE : READ, 16);
			if (STORE) memcpy(p, tile[r], 16);
			else memcpy(tile[r], p, 16);
		}
		if (settings.stats) count_banks(w.kernel->traffic, rows, 0xff, 16);
		if (!STORE)
			for (int l = 0; l < 32; l++) values[l] = pair_of(tile, l, i.flag);
	}
}

void decode_matrix(Decoder& d) {
	Insn& i = d.insn;
	const bool store = d.name() == "stmatrix";
	i.kind = LDMATRIX;
	if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8") || !d.take("b16")) return;
	i.n = d.take("x4") ? 4 : d.take("x2") ? 2 : d.take("x1") ? 1 : 0;
	i.flag = d.take("trans");
	if (!d.take("shared") && !d.take("shared::cta")) return;
	const auto list = d.list(store ? 1 : 0);
	if (i.n == 0 || list.size() != i.n) d.refuse("as many registers as matrices are needed");
	for (int j = 0; j < i.n; j++) i.v[j] = d.named(list[j]).plane;
	i.address = d.address(store ? 0 : 1);
	i.run = store ? move_matrices<true> : move_matrices<false>;
}

// ---- mma

// One element as hardware is known to add: all terms are aligned to the largest exponent
// and cut off below 24 bits, and so is their sum. The exact rule differs between
// generations; this is the pessimist's, for tests that tolerances hold with any of them.
static float truncated_sum(const float* products, int n, float c) {
	constexpr int BITS = 24, NOTHING = -1000;
	int top = NOTHING;
	double plain = c;  // decides if there are infinities or NaNs
	for (int j = 0; j <= n; j++) {
		const float x = j < n ? products[j] : c;
		if (j < n) plain += x;
		if (x != 0 && std::isfinite(x)) top = std::max(top, std::ilogb(x));
	}
	if (!std::isfinite(plain)) return (float)plain;
	if (top == NOTHING) return 0;
	i64 sum = 0;
	for (int j = 0; j <= n; j++) sum += (i64)std::trunc(std::ldexp((double)(j < n ? products[j] : c), BITS - top));
	const double exact = std::ldexp((double)sum, top - BITS);
	const float nearest = (float)exact;
	return std::fabs(nearest) > std::fabs(exact) ? std::nextafter(nearest, 0.f) : nearest;
}

struct Fragments {
	float a[16][16], b[16][8];
	double d[16][8];
};

template <float (*VALUE)(u16)> static void gather(Warp& w, const Insn& i, Fragments& f) {
	for (int l = 0; l < 32; l++) {
		const int g = l / 4, t = l % 4 * 2;
		for (int x = 0; x < 4; x++) {
			const u32 pair = plane<u32>(w, i.v2[x])[l];
			const int row = g + x % 2 * 8, column = t + x / 2 * 8;
			f.a[row][column] = VALUE((u16)pair);
			f.a[row][column + 1] = VALUE((u16)(pair >> 16));
			f.d[g + x / 2 * 8][t + x % 2] = plane<float>(w, i.v3[x])[l];
		}
		for (int x = 0; x < 2; x++) {
			const u32 pair = plane<u32>(w, x ? i.c : i.b)[l];
			f.b[t + x * 8][g] = VALUE((u16)pair);
			f.b[t + x * 8 + 1][g] = VALUE((u16)(pair >> 16));
		}
	}
}

static void multiply(Fragments& f) {
	for (int m = 0; m < 16; m++)
		for (int k = 0; k < 16; k++)
			for (int n = 0; n < 8; n++) f.d[m][n] += (double)f.a[m][k] * (double)f.b[k][n];
}

static void multiply_truncating(Fragments& f) {
	for (int m = 0; m < 16; m++)
		for (int n = 0; n < 8; n++) {
			float products[16];
			for (int k = 0; k < 16; k++) products[k] = f.a[m][k] * f.b[k][n];
			f.d[m][n] = truncated_sum(products, 16, (float)f.d[m][n]);
		}
}

template <float (*VALUE)(u16)> static void mma(Warp& w, const Insn& i) {
	need_whole_warp(w, "mma");
	Fragments f;
	gather<VALUE>(w, i, f);
	if (settings.truncate) multiply_truncating(f);
	else multiply(f);
	for (int l = 0; l < 32; l++)
		for (int x = 0; x < 4; x++) plane<float>(w, i.v[x])[l] = (float)f.d[l / 4 + x / 2 * 8][l % 4 * 2 + x % 2];
}

static float bf16_value(u16 h) { return from_bf16(h); }

static void take_fragment(Decoder& d, size_t n, Plane* planes, size_t count) {
	const auto list = d.list(n);
	if (list.size() != count) d.refuse("a fragment has another number of registers");
	for (size_t j = 0; j < count; j++) planes[j] = d.named(list[j]).plane;
}

void decode_mma(Decoder& d) {
	Insn& i = d.insn;
	i.kind = MMA;
	if (!d.take("sync") || !d.take("aligned") || !d.take("m16n8k16") || !d.take("row") || !d.take("col")) return;
	if (!d.take("f32") || !d.take("f32")) return;
	const bool bf16 = d.take("bf16") && d.take("bf16"), f16 = d.take("f16") && d.take("f16");
	Plane b[2];
	take_fragment(d, 0, i.v, 4);
	take_fragment(d, 1, i.v2, 4);
	take_fragment(d, 2, b, 2);
	take_fragment(d, 3, i.v3, 4);
	i.b = b[0], i.c = b[1];
	i.run = bf16 ? mma<bf16_value> : f16 ? mma<from_half> : nullptr;
}
