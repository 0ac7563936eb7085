//go:build nvidia

#include "cublaslt.h"

#include <dlfcn.h>
#include <stdlib.h>

enum {
	COMPUTE_32F = 68, // products and sums in float32; of float32 operands, not through TF32
	DESC_TRANSA = 3,
	DESC_TRANSB = 4,
	PREF_WORKSPACE_BYTES = 1,
	PREF_REDUCTION_SCHEMES = 3,
	PREF_ALIGNMENT_A = 5, // B, C and D follow
	CONFIG_SPLIT_K = 2,
	CONFIG_REDUCTION_SCHEME = 3,
	NOT_SUPPORTED = 15,
};

typedef struct {
	uint64_t data[8];
} algorithm;

typedef struct {
	algorithm algo;
	size_t workspace;
	int state;
	float waves;
	int reserved[4];
} candidate;

struct lt_family {
	void *desc;
	int in, out, transposed_x, transposed_y;
	algorithm algo;
};

static int (*create)(void **), (*destroy)(void *);
static int (*desc_create)(void **, int, int), (*desc_set)(void *, int, const void *, size_t), (*desc_destroy)(void *);
static int (*layout_create)(void **, int, uint64_t, uint64_t, int64_t), (*layout_destroy)(void *);
static int (*pref_create)(void **), (*pref_set)(void *, int, const void *, size_t), (*pref_destroy)(void *);
static int (*heuristic)(void *, void *, void *, void *, void *, void *, void *, int, candidate *, int *);
static int (*check)(void *, void *, void *, void *, void *, void *, const algorithm *, candidate *);
static int (*config_get)(const algorithm *, int, void *, size_t, size_t *);
static int (*matmul)(void *, void *, const void *, uint64_t, void *, uint64_t, void *, const void *, uint64_t, void *, uint64_t, void *,
                     const algorithm *, uint64_t, size_t, void *);

const char *lt_open(void)
{
	static void *lib;
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
	const struct {
		void *function;
		const char *name;
	} wanted[] = {
		{&create, "cublasLtCreate"},
		{&destroy, "cublasLtDestroy"},
		{&desc_create, "cublasLtMatmulDescCreate"},
		{&desc_set, "cublasLtMatmulDescSetAttribute"},
		{&desc_destroy, "cublasLtMatmulDescDestroy"},
		{&layout_create, "cublasLtMatrixLayoutCreate"},
		{&layout_destroy, "cublasLtMatrixLayoutDestroy"},
		{&pref_create, "cublasLtMatmulPreferenceCreate"},
		{&pref_set, "cublasLtMatmulPreferenceSetAttribute"},
		{&pref_destroy, "cublasLtMatmulPreferenceDestroy"},
		{&heuristic, "cublasLtMatmulAlgoGetHeuristic"},
		{&check, "cublasLtMatmulAlgoCheck"},
		{&config_get, "cublasLtMatmulAlgoConfigGetAttribute"},
		{&matmul, "cublasLtMatmul"},
	};
	for (size_t i = 0; !lib && i < sizeof names / sizeof *names; i++)
		lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return dlerror();
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		if (!(*(void **)wanted[i].function = dlsym(lib, wanted[i].name)))
			return wanted[i].name;
	return NULL;
}

int lt_create(void **handle) { return create(handle); }
void lt_destroy(void *handle) { destroy(handle); }

// The library thinks in columns: a row-major [r,c] is its [c,r], and out = x y its outᵀ = yᵀ xᵀ.
typedef struct {
	void *y, *x, *out;
} layouts;

static void layouts_free(layouts *l)
{
	if (l->y) layout_destroy(l->y);
	if (l->x) layout_destroy(l->x);
	if (l->out) layout_destroy(l->out);
}

static int layouts_make(layouts *l, const lt_family *f, lt_sizes s)
{
	int e;
	*l = (layouts){0};
	uint64_t y_cols = f->transposed_y ? s.k : s.n, y_rows = f->transposed_y ? s.n : s.k;
	uint64_t x_cols = f->transposed_x ? s.m : s.k, x_rows = f->transposed_x ? s.k : s.m;
	if ((e = layout_create(&l->y, f->in, y_cols, y_rows, (int64_t)y_cols)) ||
	    (e = layout_create(&l->x, f->in, x_cols, x_rows, (int64_t)s.x_row)) ||
	    (e = layout_create(&l->out, f->out, s.n, s.m, (int64_t)s.out_row)))
		layouts_free(l);
	return e;
}

static int describe(lt_family *f)
{
	int e;
	if ((e = desc_create(&f->desc, COMPUTE_32F, LT_F32)) ||
	    (e = desc_set(f->desc, DESC_TRANSA, &f->transposed_y, sizeof f->transposed_y)))
		return e;
	return desc_set(f->desc, DESC_TRANSB, &f->transposed_x, sizeof f->transposed_x);
}

// preference asks for algorithms that take sums in one piece and operands that are aligned
// to 16 bytes.
static int preference(void **p, size_t workspace_bytes)
{
	int e;
	uint64_t workspace = workspace_bytes;
	uint32_t none = 0, alignment = 16;
	if ((e = pref_create(p)) || (e = pref_set(*p, PREF_WORKSPACE_BYTES, &workspace, sizeof workspace)) ||
	    (e = pref_set(*p, PREF_REDUCTION_SCHEMES, &none, sizeof none)))
		return e;
	for (int i = 0; i < 4; i++)
		if ((e = pref_set(*p, PREF_ALIGNMENT_A + i, &alignment, sizeof alignment)))
			return e;
	return 0;
}

// whole reports whether an algorithm takes each sum in one piece. Not all versions of the
// library obey the preference.
static int whole(const algorithm *a)
{
	uint32_t pieces = 0, scheme = 0;
	size_t written;
	if (config_get(a, CONFIG_SPLIT_K, &pieces, sizeof pieces, &written) || config_get(a, CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written))
		return 0;
	return pieces <= 1 && scheme == 0;
}

// with_tokens returns the sizes of f's product of that many tokens.
static lt_sizes with_tokens(const lt_family *f, lt_sizes s, uint64_t tokens)
{
	*(f->transposed_x ? &s.k : &s.m) = tokens;
	return s;
}

// serves reports whether an algorithm takes few tokens, an odd number of them and many: the
// library promises it only for the number that it was asked about.
static int serves(void *handle, const lt_family *f, lt_sizes s, const algorithm *a, size_t workspace_bytes)
{
	static const uint64_t tokens[] = {1, 7, 16383};
	for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
		candidate result;
		layouts l;
		if (layouts_make(&l, f, with_tokens(f, s, tokens[i])))
			return 0;
		int refused = check(handle, f->desc, l.y, l.x, l.out, l.out, a, &result);
		layouts_free(&l);
		if (refused || result.workspace > workspace_bytes)
			return 0;
	}
	return 1;
}

// choose sets f's algorithm to the library's first choice that takes sums in one piece and
// serves any number of tokens.
static int choose(void *handle, lt_family *f, lt_sizes s, size_t workspace_bytes)
{
	enum { ASKED = 32 };
	candidate found[ASKED];
	layouts l;
	void *pref = NULL;
	int n = 0, e = layouts_make(&l, f, s);
	if (e)
		return e;
	if (!(e = preference(&pref, workspace_bytes)))
		e = heuristic(handle, f->desc, l.y, l.x, l.out, l.out, pref, ASKED, found, &n);
	if (pref) pref_destroy(pref);
	layouts_free(&l);
	if (e)
		return e;
	for (int i = 0; i < n; i++)
		if (found[i].state == 0 && whole(&found[i].algo) && serves(handle, f, s, &found[i].algo, workspace_bytes)) {
			f->algo = found[i].algo;
			return 0;
		}
	return NOT_SUPPORTED;
}

lt_family *lt_choose(void *handle, int in, int out, int transposed_y, int transposed_x, lt_sizes s, size_t workspace_bytes, int *status)
{
	lt_family *f = (lt_family *)calloc(1, sizeof *f); // testdata/reallt.cpp reads this as C++
	f->in = in, f->out = out, f->transposed_x = transposed_x, f->transposed_y = transposed_y;
	if ((*status = describe(f)) || (*status = choose(handle, f, s, workspace_bytes))) {
		lt_forget(f);
		return NULL;
	}
	return f;
}

void lt_forget(lt_family *f)
{
	if (f->desc) desc_destroy(f->desc);
	free(f);
}

int lt_multiply(void *handle, const lt_family *f, lt_sizes s, uint64_t out, uint64_t x, uint64_t y, float beta, uint64_t workspace,
                size_t workspace_bytes, void *stream)
{
	const float alpha = 1;
	layouts l;
	int e = layouts_make(&l, f, s);
	if (e)
		return e;
	e = matmul(handle, f->desc, &alpha, y, l.y, x, l.x, &beta, out, l.out, out, l.out, &f->algo, workspace, workspace_bytes, stream);
	layouts_free(&l);
	return e;
}
