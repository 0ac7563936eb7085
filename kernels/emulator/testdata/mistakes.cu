// One mistake per kernel. emulator_test.go lists what the emulator must say of each.
#include "tiles.cuh"

// ---- order

extern "C" __global__ void no_barrier(float* p) {
	__shared__ float s[128];
	s[threadIdx.x] = threadIdx.x;
	p[threadIdx.x] = s[threadIdx.x ^ 64];
}
extern "C" __global__ void no_syncwarp(float* p) {
	__shared__ float s[128];
	s[threadIdx.x] = threadIdx.x;
	p[threadIdx.x] = s[threadIdx.x ^ 1];
}
extern "C" __global__ void overwritten_early(float* p) {
	__shared__ float s[128];
	s[threadIdx.x] = p[threadIdx.x];
	__syncthreads();
	const float x = s[threadIdx.x ^ 64];
	s[threadIdx.x] = x;
	__syncthreads();
	p[threadIdx.x] = s[127 - threadIdx.x];
}
extern "C" __global__ void two_blocks_one_element(float* p) { p[threadIdx.x] = blockIdx.x; }
extern "C" __global__ void block_reads_what_another_writes(float* p) {
	if (blockIdx.x == 0) p[threadIdx.x] = 1;
	else p[threadIdx.x + 128] = p[threadIdx.x];
}
extern "C" __global__ void stale_read(float* p) {
	if (blockIdx.x) return;
	p[threadIdx.x] = 1;
	__syncthreads();
	p[threadIdx.x] = 1 + __ldg(p + threadIdx.x);
}
extern "C" __global__ void __launch_bounds__(64) copies_not_waited_for(float* c, const bf16* a, const bf16* b, int n, int k) { multiply<2, true>(c, a, b, n, k); }
extern "C" __global__ void __launch_bounds__(64) stage_overwritten(float* c, const bf16* a, const bf16* b, int n, int k) { multiply<1, false>(c, a, b, n, k); }

// ---- who takes part

extern "C" __global__ void divergent_sync(float* p) {
	if (threadIdx.x < 16) __syncthreads();
	p[threadIdx.x] = 0;
}
extern "C" __global__ void half_the_block_syncs(float* p) {
	if (threadIdx.x < 64) asm volatile("bar.sync 1, 128;");
	p[threadIdx.x] = 0;
}
extern "C" __global__ void shuffle_of_few(float* p) {
	if (threadIdx.x % 32 < 7) p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, p[threadIdx.x], 1);
}
extern "C" __global__ void endless(volatile float* p) {
	while (p[0] == 0) p[1] = 1;
}

// ---- which memory

extern "C" __global__ void misaligned(float* p) { *reinterpret_cast<float4*>(p + 1) = make_float4(1, 2, 3, 4); }
extern "C" __global__ void out_of_bounds(float* p) {
	if (blockIdx.x == 0) reinterpret_cast<float4*>(p)[threadIdx.x] = make_float4(1, 2, 3, 4);
}
extern "C" __global__ void before_the_start(float* p) {
	if (blockIdx.x == 0) p[(int)threadIdx.x - 1] = 0;
}
extern "C" __global__ void reads_garbage(float* p) { p[threadIdx.x + 256 * blockIdx.x] = p[threadIdx.x + 128] + 1; }
extern "C" __global__ void reads_garbage_of_its_block(float* p) {
	__shared__ float s[128];
	if (threadIdx.x < 64) s[threadIdx.x] = 1;
	__syncthreads();
	p[threadIdx.x + 128 * blockIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void outside_of_shared(float* p) {
	extern __shared__ float s[];
	s[threadIdx.x] = 1;
	__syncthreads();
	p[threadIdx.x + 128 * blockIdx.x] = s[127 - threadIdx.x];
}
extern "C" __global__ void writes_one_element(float* p) { p[blockIdx.x * 128 + threadIdx.x] = 1; }
