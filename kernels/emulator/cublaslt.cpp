//go:build ignore

// cublasLt's matrix product as loops in double precision, as libcublasLt.so.13. Strict where
// the library is: sizes, leading dimensions, types, alignment, attributes and their sizes.
// The numbers are those of cublasLt.h.
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

typedef uint64_t u64;

extern "C" int emulator_enqueue(void* stream, void (*f)(void*), void* argument);
enum MatmulAccess { MATMUL_READ, MATMUL_WRITE, MATMUL_EXISTS };
extern "C" void emulator_check(u64 p, size_t n, int access);

#define API extern "C" __attribute__((visibility("default"))) int

enum Status { SUCCESS = 0, INVALID_VALUE = 7, MAPPING_ERROR = 11, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum DataType { R_32F = 0, R_16BF = 14 };
constexpr int COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69;
constexpr u64 DEVICE = 1ull << 60;  // as in memory.h

// ---- descriptors

struct Desc {
	int32_t transpose_a = 0, transpose_b = 0;
};

struct Layout {
	int type;
	u64 rows, columns;
	int64_t ld;
	int32_t row_major = 0, batch = 1;
	int64_t stride = 0;

	u64 lines() const { return row_major ? rows : columns; }
	u64 line_length() const { return row_major ? columns : rows; }
	size_t width() const { return type == R_32F ? 4 : 2; }
	u64 index(int64_t z, u64 r, u64 c) const { return (u64)(z * stride) + (row_major ? r * (u64)ld + c : c * (u64)ld + r); }
};

constexpr uint32_t DEFAULT_ALIGNMENT = 256;
struct Preference {
	u64 workspace = 0;
	uint32_t reductions = ~0u;  // schemes that split-K may use
	uint32_t alignment[4] = {DEFAULT_ALIGNMENT, DEFAULT_ALIGNMENT, DEFAULT_ALIGNMENT, DEFAULT_ALIGNMENT};
};

// What fills cublasLtMatmulAlgo_t, 64 bytes that belong to the library.
struct Algorithm {
	static constexpr u64 MAGIC = 0xE0E1E2E3;
	u64 magic;
	int32_t split_k;
	uint32_t reduction;
	uint32_t alignment[4];  // that A, B, C and D must have
	u64 workspace;
	u64 fewest;  // columns of D that it needs; terms of its sums, if B is transposed
	u64 unused[2];
};
static_assert(sizeof(Algorithm) == 64);

// cublasLtMatmulHeuristicResult_t
struct Heuristic {
	Algorithm algorithm;
	size_t workspace;
	int state;
	float waves;
	int reserved[4];
};

// set copies an attribute if it has the size of the field.
template <class T> static int set(T& field, const void* value, size_t size) {
	if (size != sizeof field) return INVALID_VALUE;
	memcpy(&field, value, size);
	return SUCCESS;
}

extern "C" __attribute__((visibility("default"))) size_t cublasLtGetVersion() { return 130000; }

API cublasLtCreate(void** handle) {
	*handle = new char;
	return SUCCESS;
}
API cublasLtDestroy(char* handle) {
	delete handle;
	return SUCCESS;
}

API cublasLtMatmulDescCreate(Desc** d, int compute, int scale) {
	if ((compute != COMPUTE_32F && compute != COMPUTE_32F_PEDANTIC) || scale != R_32F) return NOT_SUPPORTED;
	*d = new Desc;
	return SUCCESS;
}
API cublasLtMatmulDescDestroy(Desc* d) {
	delete d;
	return SUCCESS;
}
API cublasLtMatmulDescSetAttribute(Desc* d, int attribute, const void* value, size_t size) {
	switch (attribute) {
	case 3: return set(d->transpose_a, value, size);
	case 4: return set(d->transpose_b, value, size);
	default: return INVALID_VALUE;
	}
}

API cublasLtMatrixLayoutCreate(Layout** l, int type, u64 rows, u64 columns, int64_t ld) {
	if (type != R_32F && type != R_16BF) return NOT_SUPPORTED;
	*l = new Layout{type, rows, columns, ld};
	return SUCCESS;
}
API cublasLtMatrixLayoutDestroy(Layout* l) {
	delete l;
	return SUCCESS;
}
API cublasLtMatrixLayoutSetAttribute(Layout* l, int attribute, const void* value, size_t size) {
	switch (attribute) {
	case 1: return set(l->row_major, value, size);
	case 5: return set(l->batch, value, size);
	case 6: return set(l->stride, value, size);
	default: return INVALID_VALUE;
	}
}

API cublasLtMatmulPreferenceCreate(Preference** p) {
	*p = new Preference;
	return SUCCESS;
}
API cublasLtMatmulPreferenceDestroy(Preference* p) {
	delete p;
	return SUCCESS;
}
API cublasLtMatmulPreferenceSetAttribute(Preference* p, int attribute, const void* value, size_t size) {
	switch (attribute) {
	case 1: return set(p->workspace, value, size);
	case 3: return set(p->reductions, value, size);
	case 5: case 6: case 7: case 8: return set(p->alignment[attribute - 5], value, size);
	default: return INVALID_VALUE;
	}
}

// ---- algorithms

// The sizes of op(A) op(B) = D; SUCCESS if the layouts fit each other.
static int check_layouts(const Desc& d, const Layout& a, const Layout& b, const Layout& c, const Layout& o) {
	const u64 m = d.transpose_a ? a.columns : a.rows, k = d.transpose_a ? a.rows : a.columns;
	const u64 kb = d.transpose_b ? b.columns : b.rows, n = d.transpose_b ? b.rows : b.columns;
	if (m != o.rows || n != o.columns || k != kb || c.rows != m || c.columns != n) return INVALID_VALUE;
	for (const Layout* l : {&a, &b, &c, &o})
		if (l->ld < (int64_t)l->line_length() || l->row_major != o.row_major || l->batch != o.batch) return INVALID_VALUE;
	if (a.type != b.type || c.type != o.type) return NOT_SUPPORTED;
	return a.type == R_16BF || o.type == R_32F ? SUCCESS : NOT_SUPPORTED;
}

// takes reports whether an algorithm can do a product whose layouts fit each other.
static bool takes(const Algorithm& algorithm, const Desc& d, const Layout& b, const Layout& o) {
	return (d.transpose_b ? b.columns : o.columns) >= algorithm.fewest;
}

// The first algorithm that it offers splits K, as the library likes to for few rows, if
// it may: one that must not be taken where a row's bits may not depend on its company. The
// next fills whole tiles only, and is not offered for less: one that must not be kept for
// products of other sizes without asking.
API cublasLtMatmulAlgoGetHeuristic(void*, Desc* d, Layout* a, Layout* b, Layout* c, Layout* o, Preference* p, int asked, Heuristic* results, int* found) {
	constexpr int SPLITS = 4;
	constexpr u64 TILE = 64;
	constexpr uint32_t COMPUTE_TYPE = 2;  // CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
	*found = 0;
	if (int status = check_layouts(*d, *a, *b, *c, *o)) return status;
	Algorithm split = {Algorithm::MAGIC, SPLITS, COMPUTE_TYPE, {}, p->workspace, 0, {}};
	Algorithm tiled = {Algorithm::MAGIC, 1, 0, {}, 0, TILE, {}}, plain = {Algorithm::MAGIC, 1, 0, {}, 0, 0, {}};
	auto offer = [&](Algorithm algorithm) {
		memcpy(algorithm.alignment, p->alignment, sizeof p->alignment);
		if (*found < asked) results[(*found)++] = {algorithm, algorithm.workspace, SUCCESS, 1, {}};
	};
	if (p->reductions & COMPUTE_TYPE) offer(split);
	if (takes(tiled, *d, *b, *o)) offer(tiled);
	offer(plain);
	return SUCCESS;
}

API cublasLtMatmulAlgoCheck(void*, Desc* d, Layout* a, Layout* b, Layout* c, Layout* o, const Algorithm* algorithm, Heuristic* result) {
	if (int status = check_layouts(*d, *a, *b, *c, *o)) return status;
	if (algorithm->magic != Algorithm::MAGIC) return INVALID_VALUE;
	if (!takes(*algorithm, *d, *b, *o)) return NOT_SUPPORTED;
	*result = {*algorithm, algorithm->workspace, SUCCESS, 1, {}};
	return SUCCESS;
}

API cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int attribute, void* value, size_t size, size_t* written) {
	const void* field = attribute == 2 ? (const void*)&algorithm->split_k : attribute == 3 ? (const void*)&algorithm->reduction : nullptr;
	if (!field || algorithm->magic != Algorithm::MAGIC || size != 4) return INVALID_VALUE;
	memcpy(value, field, size);
	if (written) *written = size;
	return SUCCESS;
}

// ---- the product

struct Job {
	Desc desc;
	Layout a, b, c, d;
	float alpha, beta;
	u64 pa, pb, pc, pd;
	int splits;
};

static double element(const Layout& l, u64 base, u64 at) {
	if (l.type == R_32F) return ((const float*)(base - DEVICE))[at];
	const uint32_t bits = (uint32_t)((const uint16_t*)(base - DEVICE))[at] << 16;
	float x;
	memcpy(&x, &bits, 4);
	return x;
}

static void set_element(const Layout& l, u64 base, u64 at, float x) {
	if (l.type == R_32F) {
		((float*)(base - DEVICE))[at] = x;
		return;
	}
	uint32_t bits;
	memcpy(&bits, &x, 4);
	((uint16_t*)(base - DEVICE))[at] = (uint16_t)(x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void check_memory(const Layout& l, u64 base, int access) {
	for (int64_t z = 0; z < l.batch; z++)
		for (u64 j = 0; j < l.lines(); j++) emulator_check(base + ((u64)(z * l.stride) + j * (u64)l.ld) * l.width(), l.line_length() * l.width(), access);
}

// op(matrix) with the summed index last: [others][k]
static std::vector<double> gather(const Layout& l, u64 base, int64_t z, bool k_is_row, u64 others, u64 k) {
	std::vector<double> out(others * k);
	for (u64 r = 0; r < others; r++)
		for (u64 x = 0; x < k; x++) out[r * k + x] = element(l, base, k_is_row ? l.index(z, x, r) : l.index(z, r, x));
	return out;
}

// A sum over k; parts of a split are rounded to float before they are added.
static double dot(const double* a, const double* b, u64 k, int splits) {
	double sum = 0;
	for (int part = 0; part < splits; part++) {
		double s = 0;
		for (u64 x = k * (u64)part / (u64)splits; x < k * (u64)(part + 1) / (u64)splits; x++) s += a[x] * b[x];
		sum += splits > 1 ? (float)s : s;
	}
	return sum;
}

static void multiply(const Job& j) {
	check_memory(j.a, j.pa, MATMUL_READ);
	check_memory(j.b, j.pb, MATMUL_READ);
	if (j.beta != 0) check_memory(j.c, j.pc, MATMUL_READ);
	const u64 m = j.d.rows, n = j.d.columns, k = j.desc.transpose_a ? j.a.rows : j.a.columns;
	for (int64_t z = 0; z < j.d.batch; z++) {
		const auto a = gather(j.a, j.pa, z, j.desc.transpose_a, m, k);
		const auto b = gather(j.b, j.pb, z, !j.desc.transpose_b, n, k);
		for (u64 c = 0; c < n; c++)
			for (u64 r = 0; r < m; r++) {
				const double product = j.alpha * dot(&a[r * k], &b[c * k], k, j.splits);
				const double before = j.beta != 0 ? j.beta * element(j.c, j.pc, j.c.index(z, r, c)) : 0;
				set_element(j.d, j.pd, j.d.index(z, r, c), (float)(product + before));
			}
	}
	check_memory(j.d, j.pd, MATMUL_WRITE);
}

static void run_job(void* p) {
	const Job job = *(Job*)p;
	delete (Job*)p;
	multiply(job);
}

API cublasLtMatmul(void*, Desc* d, const float* alpha, u64 pa, Layout* a, u64 pb, Layout* b, const float* beta, u64 pc, Layout* c, u64 pd, Layout* o,
                   const Algorithm* algorithm, u64 workspace, size_t workspace_size, void* stream) {
	constexpr u64 LEAST_ALIGNMENT = 16;
	if (int status = check_layouts(*d, *a, *b, *c, *o)) return status;
	if (algorithm && algorithm->magic != Algorithm::MAGIC) return INVALID_VALUE;
	if (algorithm && !takes(*algorithm, *d, *b, *o)) return NOT_SUPPORTED;
	const u64 pointers[4] = {pa, pb, pc, pd};
	for (int i = 0; i < 4; i++) {
		if (i == 2 && *beta == 0) continue;
		if (pointers[i] % (algorithm ? algorithm->alignment[i] : LEAST_ALIGNMENT)) return NOT_SUPPORTED;
	}
	if (algorithm && algorithm->workspace > workspace_size) return INVALID_VALUE;
	if (workspace_size > 0) emulator_check(workspace, workspace_size, MATMUL_EXISTS);
	auto* job = new Job{*d, *a, *b, *c, *o, *alpha, *beta, pa, pb, pc, pd, algorithm ? algorithm->split_k : 1};
	return emulator_enqueue(stream, run_job, job) ? EXECUTION_FAILED : SUCCESS;
}
