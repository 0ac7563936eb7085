// Kernels without mistakes: check.cpp compares their results with its own, and the
// emulator must have nothing to say, whatever the order of warps.
#include "expressions.h"
#include "tiles.cuh"

extern "C" __global__ void __launch_bounds__(64) matmul(float* c, const bf16* a, const bf16* b, int n, int k) { multiply<1, true>(c, a, b, n, k); }

// out[0] += the sum of x, counts[v] += how many of x are v; grid-stride, 128 threads
extern "C" __global__ void __launch_bounds__(128) sum_and_count(unsigned long long* out, unsigned* counts, const int* x, int n) {
	__shared__ int partial[4];
	__shared__ unsigned local[16];
	if (threadIdx.x < 16) local[threadIdx.x] = 0;
	__syncthreads();
	int sum = 0;
	for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
		sum += x[i];
		atomicAdd(&local[x[i] & 15], 1u);
	}
#pragma unroll
	for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
	if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
	__syncthreads();
	if (threadIdx.x == 0) atomicAdd(out, (unsigned long long)(partial[0] + partial[1] + partial[2] + partial[3]));
	if (threadIdx.x < 16) atomicAdd(&counts[threadIdx.x], local[threadIdx.x]);
}

// Lanes that leave a loop at different times, and meet again.
extern "C" __global__ void collatz(int* steps, const unsigned* start, int n) {
	const int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= n) return;
	int count = 0;
	for (unsigned x = start[i]; x != 1; count++) x = x & 1 ? 3 * x + 1 : x / 2;
	__syncwarp(__activemask());
	steps[i] = count;
}

// Vectors of 2, 4, 8 and 16 bytes, single bytes two apart, and pairs of bf16.
extern "C" __global__ void vectors(float4* quads, double2* pairs, uchar2* bytes, unsigned* halves, const float4* x) {
	const float4 v = x[threadIdx.x];
	quads[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
	pairs[threadIdx.x] = make_double2((double)v.x + v.y, (double)v.z - v.w);
	bytes[threadIdx.x] = make_uchar2((unsigned char)(threadIdx.x * 3), (unsigned char)(threadIdx.x + 200));
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(halves[threadIdx.x]) : "f"(v.y), "f"(v.x));
}

// out[i][e] = expression e of a[i], b[i]
template <int N> __device__ void integer_row(int64_t* out, int64_t a, int64_t b) {
	if constexpr (N > 0) {
		integer_row<N - 1>(out, a, b);
		out[N - 1] = integer_expression<N - 1>(a, b);
	}
}
template <int N> __device__ void float_row(float* out, float x, float y) {
	if constexpr (N > 0) {
		float_row<N - 1>(out, x, y);
		out[N - 1] = float_expression<N - 1>(x, y);
	}
}
template <int N> __device__ void double_row(double* out, double x, double y) {
	if constexpr (N > 0) {
		double_row<N - 1>(out, x, y);
		out[N - 1] = double_expression<N - 1>(x, y);
	}
}
extern "C" __global__ void integers(int64_t* out, const int64_t* a, const int64_t* b, int n) {
	const int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n) integer_row<INTEGER_EXPRESSIONS>(out + i * INTEGER_EXPRESSIONS, a[i], b[i]);
}
extern "C" __global__ void floats(float* out, const float* x, const float* y, int n) {
	const int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n) float_row<FLOAT_EXPRESSIONS>(out + i * FLOAT_EXPRESSIONS, x[i], y[i]);
}
extern "C" __global__ void doubles(double* out, const double* x, const double* y, int n) {
	const int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n) double_row<DOUBLE_EXPRESSIONS>(out + i * DOUBLE_EXPRESSIONS, x[i], y[i]);
}
