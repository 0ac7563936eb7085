// Holds cublaslt.c beside the real cublasLt: its declarations beside NVIDIA's header, when this
// is compiled, and its calls beside the library, when it runs, as far as that goes without a
// GPU. `make cuda-real` does both.
//
//	reallt FOLDER    where the library must have come from
#include <cublasLt.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "../cublaslt.c"

// ---- declarations

// same: values of both types travel alike, in the same kind of register.
template <class A, class B>
constexpr bool same = sizeof(A) == sizeof(B) && std::is_floating_point_v<A> == std::is_floating_point_v<B>;

template <class R, class... A, class S, class... B>
constexpr bool alike(R (*)(A...), S (*)(B...))
{
	if constexpr (sizeof...(A) != sizeof...(B)) return false;
	else return same<R, S> && (same<A, B> && ...);
}

#define FUNCTION(ours, theirs) static_assert(alike(decltype(ours){}, decltype(&theirs){}), #theirs " has other parameters")
FUNCTION(create, cublasLtCreate);
FUNCTION(destroy, cublasLtDestroy);
FUNCTION(desc_create, cublasLtMatmulDescCreate);
FUNCTION(desc_set, cublasLtMatmulDescSetAttribute);
FUNCTION(desc_destroy, cublasLtMatmulDescDestroy);
FUNCTION(layout_create, cublasLtMatrixLayoutCreate);
FUNCTION(layout_destroy, cublasLtMatrixLayoutDestroy);
FUNCTION(pref_create, cublasLtMatmulPreferenceCreate);
FUNCTION(pref_set, cublasLtMatmulPreferenceSetAttribute);
FUNCTION(pref_destroy, cublasLtMatmulPreferenceDestroy);
FUNCTION(heuristic, cublasLtMatmulAlgoGetHeuristic);
FUNCTION(check, cublasLtMatmulAlgoCheck);
FUNCTION(config_get, cublasLtMatmulAlgoConfigGetAttribute);
FUNCTION(matmul, cublasLtMatmul);

#define VALUE(ours, theirs) static_assert((int)ours == (int)theirs, #theirs " has another value")
VALUE(LT_F32, CUDA_R_32F);
VALUE(LT_BF16, CUDA_R_16BF);
VALUE(COMPUTE_32F, CUBLAS_COMPUTE_32F);
VALUE(DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
VALUE(DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
VALUE(PREF_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
VALUE(PREF_REDUCTION_SCHEMES, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
VALUE(PREF_ALIGNMENT_A + 0, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
VALUE(PREF_ALIGNMENT_A + 1, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
VALUE(PREF_ALIGNMENT_A + 2, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
VALUE(PREF_ALIGNMENT_A + 3, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
VALUE(CONFIG_SPLIT_K, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
VALUE(CONFIG_REDUCTION_SCHEME, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
VALUE(0, CUBLASLT_REDUCTION_SCHEME_NONE); // in preference and whole
VALUE(0, CUBLAS_OP_N);
VALUE(1, CUBLAS_OP_T);
VALUE(0, CUBLAS_STATUS_SUCCESS);
VALUE(1, CUBLAS_STATUS_NOT_INITIALIZED); // from here on, what ltStatus of cublaslt.go names
VALUE(3, CUBLAS_STATUS_ALLOC_FAILED);
VALUE(7, CUBLAS_STATUS_INVALID_VALUE);
VALUE(8, CUBLAS_STATUS_ARCH_MISMATCH);
VALUE(13, CUBLAS_STATUS_EXECUTION_FAILED);
VALUE(14, CUBLAS_STATUS_INTERNAL_ERROR);
VALUE(NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED);

#define FIELD(ours, theirs) static_assert(offsetof(candidate, ours) == offsetof(cublasLtMatmulHeuristicResult_t, theirs) && \
	sizeof(candidate::ours) == sizeof(cublasLtMatmulHeuristicResult_t::theirs), #theirs " lies elsewhere")
static_assert(sizeof(algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(candidate) == sizeof(cublasLtMatmulHeuristicResult_t));
FIELD(algo, algo);
FIELD(workspace, workspaceSize);
FIELD(state, state);
FIELD(waves, wavesCount);
FIELD(reserved, reserved);

// ---- calls

static int checks, failures;

static void expect(bool ok, const char *what)
{
	checks++;
	if (ok) return;
	failures++;
	printf("FAILED: %s\n", what);
}

static void *lib; // that lt_open opened

template <class F> static F symbol(const char *name)
{
	F f = (F)dlsym(lib, name);
	if (f) return f;
	printf("FAILED: the library has no %s\n", name);
	exit(1);
}
#define THEIRS(name) symbol<decltype(&name)>(#name)

// holds expects that an attribute has the size of value, and that value.
template <class T, class Get, class Object, class Attribute>
static void holds(Get *get, Object object, Attribute attribute, T value, const char *what)
{
	T got = {};
	size_t needed = 0, written = 0;
	expect(get(object, attribute, nullptr, 0, &needed) == 0 && needed == sizeof got, what);
	expect(get(object, attribute, &got, sizeof got, &written) == 0 && written == sizeof got && got == value, what);
}
#define HOLDS(get, object, attribute, value) holds(get, object, attribute, value, #attribute)

// A product of Yi-34B's, as lt_choose gets it: 1850 tokens, gate and up.
struct form {
	const char *name;
	int out, transposed_y, transposed_x;
	lt_sizes s;
	uint64_t y_rows, y_cols, x_rows, x_cols; // of what lies in memory, by rows
};
static const form forms[] = {
	{"forward", LT_BF16, 1, 0, {1850, 40960, 7168, 40960, 7168}, 40960, 7168, 1850, 7168},
	{"gradient of input", LT_BF16, 0, 0, {1850, 7168, 40960, 7168, 40960}, 40960, 7168, 1850, 40960},
	{"gradient of weight", LT_F32, 0, 1, {40960, 7168, 1850, 7168, 40960}, 1850, 7168, 1850, 40960},
};

static lt_family family_of(const form &f)
{
	lt_family l = {};
	l.in = LT_BF16, l.out = f.out, l.transposed_y = f.transposed_y, l.transposed_x = f.transposed_x;
	return l;
}

static void describes(const form &f)
{
	auto get = THEIRS(cublasLtMatmulDescGetAttribute);
	lt_family l = family_of(f);
	expect(describe(&l) == 0, "a product's descriptor");
	auto d = (cublasLtMatmulDesc_t)l.desc;
	HOLDS(get, d, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, (int32_t)CUBLAS_COMPUTE_32F);
	HOLDS(get, d, CUBLASLT_MATMUL_DESC_SCALE_TYPE, (int32_t)CUDA_R_32F);
	HOLDS(get, d, CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)f.transposed_y);
	HOLDS(get, d, CUBLASLT_MATMUL_DESC_TRANSB, (int32_t)f.transposed_x);
	int32_t value = 1;
	expect(desc_set(l.desc, DESC_TRANSA, &value, 2) == CUBLAS_STATUS_INVALID_VALUE, "an attribute of the wrong size is refused");
	expect(desc_destroy(l.desc) == 0, "a descriptor is given back");
}

// lies expects a layout to be [rows,cols] by rows, which is [cols,rows] to the library.
static void lies(void *layout, int type, uint64_t rows, uint64_t cols)
{
	auto get = THEIRS(cublasLtMatrixLayoutGetAttribute);
	auto l = (cublasLtMatrixLayout_t)layout;
	HOLDS(get, l, CUBLASLT_MATRIX_LAYOUT_TYPE, (uint32_t)type);
	HOLDS(get, l, CUBLASLT_MATRIX_LAYOUT_ORDER, (int32_t)CUBLASLT_ORDER_COL);
	HOLDS(get, l, CUBLASLT_MATRIX_LAYOUT_ROWS, cols);
	HOLDS(get, l, CUBLASLT_MATRIX_LAYOUT_COLS, rows);
	HOLDS(get, l, CUBLASLT_MATRIX_LAYOUT_LD, (int64_t)cols);
}

static void lays_out(const form &f)
{
	layouts l;
	lt_family family = family_of(f);
	expect(layouts_make(&l, &family, f.s) == 0, "layouts");
	lies(l.y, LT_BF16, f.y_rows, f.y_cols);
	lies(l.x, LT_BF16, f.x_rows, f.x_cols);
	lies(l.out, f.out, f.s.m, f.s.n);
	layouts_free(&l);
}

static void prefers()
{
	auto get = THEIRS(cublasLtMatmulPreferenceGetAttribute);
	void *made = nullptr;
	expect(preference(&made, 32 << 20) == 0, "a preference");
	auto p = (cublasLtMatmulPreference_t)made;
	HOLDS(get, p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)32 << 20);
	HOLDS(get, p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (uint32_t)0);
	HOLDS(get, p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)16);
	HOLDS(get, p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)16);
	HOLDS(get, p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)16);
	HOLDS(get, p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)16);
	expect(pref_destroy(made) == 0, "a preference is given back");
}

// configures reads an algorithm's attributes as whole does.
static void configures()
{
	algorithm a = {};
	for (int attribute : {(int)CONFIG_SPLIT_K, (int)CONFIG_REDUCTION_SCHEME}) {
		uint32_t value = 0;
		size_t needed = 0;
		int status = config_get(&a, attribute, nullptr, 0, &needed);
		printf("  algorithm's attribute %d: status %d, %zu bytes\n", attribute, status, needed);
		expect(status != 0 || needed == sizeof value, "an algorithm's attribute has 4 bytes");
	}
}

// chooses does what needs a device: it says how far that came, and judges no more of it.
static void chooses()
{
	void *handle = nullptr;
	auto name = THEIRS(cublasLtGetStatusName);
	int status = create(&handle);
	printf("  cublasLtCreate: %s\n", name((cublasStatus_t)status));
	if (status) return;
	for (const form &f : forms) {
		lt_family *chosen = lt_choose(handle, LT_BF16, f.out, f.transposed_y, f.transposed_x, f.s, 32 << 20, &status);
		printf("  an algorithm for %s: %s\n", f.name, name((cublasStatus_t)status));
		if (chosen) lt_forget(chosen);
	}
	destroy(handle);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, nullptr, _IOLBF, 0); // in order, whatever the library does to the process
	const char *missing = lt_open();
	if (missing) {
		printf("FAILED: open cublasLt: %s\n", missing);
		return 1;
	}
	Dl_info from = {};
	if (argc != 2 || !dladdr((void *)create, &from) || strncmp(from.dli_fname, argv[1], strlen(argv[1]))) {
		printf("FAILED: cublasLt came from %s, want a folder that is named as the argument\n", from.dli_fname);
		return 1;
	}
	lib = dlopen(from.dli_fname, RTLD_NOW | RTLD_NOLOAD);
	printf("  cublasLtGetVersion: %zu; the header is of %d\n", THEIRS(cublasLtGetVersion)(), CUBLAS_VERSION);
	for (const form &f : forms) describes(f), lays_out(f);
	prefers();
	configures();
	chooses();
	printf("  %d of %d checks passed\n", checks - failures, checks);
	return failures != 0;
}
