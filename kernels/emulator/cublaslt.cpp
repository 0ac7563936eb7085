//go:build ignore

// cublasLt's matrix product as plain loops in double precision, as libcublasLt.so.13 of the emulator.
// Strict where the library is: dimensions, leading dimensions, alignment, types; memory is checked per column.
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

typedef uint64_t u64;
extern "C" int emulator_enqueue(void* stream, void (*f)(void*), void* arg);
extern "C" int emulator_check(u64 p, size_t n, int write);

namespace {
enum { OK = 0, INVALID = 7, NOT_SUPPORTED = 15 };
constexpr u64 DEVICE = 1ull << 60;
struct Desc {
	std::map<int, int> attr;
};
struct Layout {
	int type;
	u64 rows, cols;
	int64_t ld, batch = 1, stride = 0;
	int order = 0;
};
struct Job {
	Layout a, b, c, d;
	bool ta, tb;
	float alpha, beta;
	u64 A, B, C, D;
};
size_t width(int type) { return type == 0 ? 4 : 2; }
double get(const Layout& l, u64 base, int64_t batch, u64 r, u64 c) {
	const u64 at = batch * l.stride + (l.order ? r * l.ld + c : c * l.ld + r);
	if (l.type == 0) return ((float*)(base - DEVICE))[at];
	const uint32_t u = (uint32_t)((uint16_t*)(base - DEVICE))[at] << 16;
	float f;
	return memcpy(&f, &u, 4), f;
}
void put(const Layout& l, u64 base, int64_t batch, u64 r, u64 c, float x) {
	const u64 at = batch * l.stride + (l.order ? r * l.ld + c : c * l.ld + r);
	if (l.type == 0) {
		((float*)(base - DEVICE))[at] = x;
		return;
	}
	uint32_t u;
	memcpy(&u, &x, 4);
	((uint16_t*)(base - DEVICE))[at] = x != x ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
void touch(const Layout& l, u64 base, int write) {
	const u64 n = l.order ? l.rows : l.cols, len = (l.order ? l.cols : l.rows) * width(l.type);
	for (int64_t z = 0; z < l.batch; z++)
		for (u64 j = 0; j < n; j++) emulator_check(base + (z * l.stride + j * l.ld) * width(l.type), len, write);
}
void multiply(void* p) {
	Job* j = (Job*)p;
	touch(j->a, j->A, 0), touch(j->b, j->B, 0);
	if (j->beta != 0) touch(j->c, j->C, 0);
	touch(j->d, j->D, j->beta != 0 && j->C == j->D ? 0 : 1);
	const u64 m = j->d.rows, n = j->d.cols, k = j->ta ? j->a.rows : j->a.cols;
	std::vector<double> a(m * k), b(k * n);
	for (int64_t z = 0; z < j->d.batch; z++) {
		for (u64 r = 0; r < m; r++)
			for (u64 x = 0; x < k; x++) a[r * k + x] = j->ta ? get(j->a, j->A, z, x, r) : get(j->a, j->A, z, r, x);
		for (u64 x = 0; x < k; x++)
			for (u64 c = 0; c < n; c++) b[c * k + x] = j->tb ? get(j->b, j->B, z, c, x) : get(j->b, j->B, z, x, c);
		for (u64 c = 0; c < n; c++)
			for (u64 r = 0; r < m; r++) {
				double s = 0;
				for (u64 x = 0; x < k; x++) s += a[r * k + x] * b[c * k + x];
				s = j->alpha * s + (j->beta != 0 ? j->beta * get(j->c, j->C, z, r, c) : 0);
				put(j->d, j->D, z, r, c, (float)s);
			}
	}
	delete j;
}
}  // namespace

#define API extern "C" __attribute__((visibility("default"))) int
extern "C" __attribute__((visibility("default"))) size_t cublasLtGetVersion() { return 130000; }
API cublasLtCreate(void** h) { return *h = new char, OK; }
API cublasLtDestroy(char* h) { return delete h, OK; }
API cublasLtMatmulDescCreate(Desc** d, int compute, int scale) { return compute != 68 || scale != 0 ? NOT_SUPPORTED : (*d = new Desc, OK); }
API cublasLtMatmulDescDestroy(Desc* d) { return delete d, OK; }
API cublasLtMatmulDescSetAttribute(Desc* d, int attr, const void* p, size_t n) {
	if ((attr != 3 && attr != 4) || n != 4) return INVALID;
	return memcpy(&d->attr[attr], p, 4), OK;
}
API cublasLtMatrixLayoutCreate(Layout** l, int type, u64 rows, u64 cols, int64_t ld) {
	if (type != 0 && type != 14) return NOT_SUPPORTED;
	return *l = new Layout{type, rows, cols, ld}, OK;
}
API cublasLtMatrixLayoutDestroy(Layout* l) { return delete l, OK; }
API cublasLtMatrixLayoutSetAttribute(Layout* l, int attr, const void* p, size_t n) {
	if (attr == 1 && n == 4) return memcpy(&l->order, p, 4), OK;
	int32_t batch;
	if (attr == 5 && n == 4) return memcpy(&batch, p, 4), l->batch = batch, OK;
	if (attr == 6 && n == 8) return memcpy(&l->stride, p, 8), OK;
	return INVALID;
}
API cublasLtMatmulPreferenceCreate(void** p) { return *p = new char, OK; }
API cublasLtMatmulPreferenceDestroy(char* p) { return delete p, OK; }
API cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return OK; }
static int valid(const Desc* d, const Layout* a, const Layout* b, const Layout* c, const Layout* o) {
	auto at = [&](int x) { auto it = d->attr.find(x); return it != d->attr.end() && it->second == 1; };
	const u64 m = at(3) ? a->cols : a->rows, k = at(3) ? a->rows : a->cols, kb = at(4) ? b->cols : b->rows, n = at(4) ? b->rows : b->cols;
	if (m != o->rows || n != o->cols || k != kb || c->rows != m || c->cols != n) return INVALID;
	for (auto l : {a, b, c, o})
		if (l->ld < (int64_t)(l->order ? l->cols : l->rows) || l->order != o->order || l->batch != o->batch) return INVALID;
	return a->type == b->type && c->type == o->type ? OK : NOT_SUPPORTED;
}
struct Result {  // cublasLtMatmulHeuristicResult_t
	u64 algo[8];
	size_t workspace;
	int state;
	float waves;
	int reserved[4];
};
API cublasLtMatmulAlgoGetHeuristic(void*, Desc* d, Layout* a, Layout* b, Layout* c, Layout* o, void*, int asked, Result* r, int* found) {
	if (int e = valid(d, a, b, c, o)) return *found = 0, e;
	for (int i = 0; i < asked; i++) r[i] = {{0xE0, (u64)i}, 0, 0, 1, {}};
	return *found = asked, OK;
}
API cublasLtMatmul(void*, Desc* d, const float* alpha, u64 A, Layout* a, u64 B, Layout* b, const float* beta, u64 C, Layout* c, u64 D, Layout* o, const u64* algo, void*, size_t, void* stream) {
	if (int e = valid(d, a, b, c, o)) return e;
	for (u64 p : {A, B, D})
		if (p % 16) return NOT_SUPPORTED;
	if (algo && algo[0] != 0xE0) return INVALID;
	return emulator_enqueue(stream, multiply, new Job{*a, *b, *c, *o, d->attr[3] == 1, d->attr[4] == 1, *alpha, *beta, A, B, C, D}) ? 14 : OK;
}
