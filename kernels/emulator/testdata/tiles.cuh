// A product of matrices on tensor cores, fed by cp.async through two stages of shared
// memory, with two places where a careless author forgets to wait.
#pragma once

typedef unsigned short bf16;

__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void copy_16_bytes(void* to, const void* from) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
__device__ __forceinline__ void close_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int OPEN> __device__ __forceinline__ void wait_for_groups() { asm volatile("cp.async.wait_group %0;" ::"n"(OPEN) : "memory"); }

constexpr int ROWS = 32, COLUMNS = 16, DEPTH = 16;  // of a block's tiles; a warp has 16 rows

// c[m,n] = a[m,k] b[k,n], for sizes that are multiples of the tiles; 64 threads a block.
// OPEN: groups of copies that may be on their way when a tile is used; 1 is right.
// FREE: wait until all have used a stage before it is filled again.
template <int OPEN, bool FREE> __device__ void multiply(float* c, const bf16* a, const bf16* b, int n, int k) {
	__shared__ __align__(16) bf16 sa[2][ROWS][DEPTH];
	__shared__ __align__(16) bf16 sb[2][DEPTH][COLUMNS];
	const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, steps = k / DEPTH;

	auto load = [&](int step) {
		const int r = threadIdx.x / 2, x = threadIdx.x % 2 * 8;
		copy_16_bytes(&sa[step & 1][r][x], a + (size_t)(row0 + r) * k + step * DEPTH + x);
		if (threadIdx.x < 32) copy_16_bytes(&sb[step & 1][r][x], b + (size_t)(step * DEPTH + r) * n + column0 + x);
		close_group();
	};

	float sum[2][4] = {};
	load(0);
	for (int step = 0; step < steps; step++) {
		if (step + 1 < steps) {
			load(step + 1);
			wait_for_groups<OPEN>();
		} else
			wait_for_groups<0>();
		__syncthreads();
		unsigned fa[4], fb[4];
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		             : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
		             : "r"(shared_address(&sa[step & 1][warp * 16 + lane % 16][lane / 16 * 8])) : "memory");
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		             : "=r"(fb[0]), "=r"(fb[1]), "=r"(fb[2]), "=r"(fb[3])
		             : "r"(shared_address(&sb[step & 1][lane % 16][lane / 16 * 8])) : "memory");
#pragma unroll
		for (int j = 0; j < 2; j++)
			asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
			             : "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
			             : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[2 * j]), "r"(fb[2 * j + 1]));
		if (FREE) __syncthreads();
	}
#pragma unroll
	for (int j = 0; j < 2; j++)
#pragma unroll
		for (int x = 0; x < 4; x++) {
			const int r = row0 + warp * 16 + lane / 4 + x / 2 * 8, col = column0 + j * 8 + lane % 4 * 2 + x % 2;
			c[(size_t)r * n + col] = sum[j][x];
		}
}
