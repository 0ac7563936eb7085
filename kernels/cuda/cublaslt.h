// cublasLt, opened when it is needed and declared here, so that neither its package (420 MB)
// nor its headers are needed to build. Numbers and structures are those of cublasLt.h of
// CUDA 12 and 13.
#include <stddef.h>
#include <stdint.h>

enum { LT_F32 = 0, LT_BF16 = 14 };

// out[m,n], sum over k, all row-major. Rows of out and x begin so many elements after the one
// before; y has no gaps.
typedef struct {
	uint64_t m, n, k, out_row, x_row;
} lt_sizes;

// A product of given types and transpositions, and its algorithm.
typedef struct lt_family lt_family;

// lt_open returns what is missing, or NULL.
const char *lt_open(void);
int lt_create(void **handle);
void lt_destroy(void *handle);

// lt_choose returns NULL, and why in status, if there is no algorithm. A transposed x is
// [k,m], a transposed y is [n,k].
lt_family *lt_choose(void *handle, int in, int out, int transposed_y, int transposed_x, lt_sizes s, size_t workspace_bytes, int *status);
void lt_forget(lt_family *f);
int lt_multiply(void *handle, const lt_family *f, lt_sizes s, uint64_t out, uint64_t x, uint64_t y, float beta, uint64_t workspace,
                size_t workspace_bytes, void *stream);
