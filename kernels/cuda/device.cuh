// What all kernels share: the few device instructions that CUDA C does not spell (every line
// of inline PTX of the project is in this file), elements in packs of eight, and sums over a
// block.
#pragma once

typedef unsigned short bf16;  // storage only; arithmetic is float

__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((unsigned)x << 16); }
__device__ __forceinline__ float to_float(float x) { return x; }

// Packs two floats, rounded to nearest even; lo in the low half.
__device__ __forceinline__ unsigned pack_bf16(float lo, float hi) {
	unsigned r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
	return r;
}

// set rounds to nearest even.
__device__ __forceinline__ void set(bf16& to, float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to) : "f"(x)); }
__device__ __forceinline__ void set(float& to, float x) { to = x; }

__device__ __forceinline__ float exp2_approx(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// ---- asynchronous copies and tensor cores

__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// Copies 16 bytes from global to shared memory, zeros if !valid.
__device__ __forceinline__ void cp_async_16(unsigned dst, const void* src, bool valid) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(valid ? 16 : 0) : "memory");
}
// Keeps the compiler from taking p apart: what is a constant away from it is addressed from it,
// where each would have had registers of its own.
template <class T> __device__ __forceinline__ void as_one(T*& p) { asm("" : "+l"(p)); }
// Copies 8 bytes.
__device__ __forceinline__ void cp_async_8(unsigned dst, const void* src) {
	asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(dst), "l"(src) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], unsigned address) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], unsigned address) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

// d += a b: a 16x16 row major, b 16x8 column major, float accumulator.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	             : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Waits until as many threads, whole warps, have come to the barrier of that number, which is
// 1 to 15: __syncthreads has 0.
__device__ __forceinline__ void sync_some(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }

// ---- packs of eight elements

constexpr int PACK = 8;

// Loads eight elements, zeros from left on. With V the address is a multiple of 16 bytes and
// left is at least 8. Which elements a thread holds, hence the order of every sum, is the same
// with V and without.
template <bool V> __device__ __forceinline__ void load8(float (&v)[PACK], const bf16* p, int left) {
	if constexpr (V) {
		const uint4 x = *reinterpret_cast<const uint4*>(p);
		const unsigned word[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
		for (int i = 0; i < 4; i++) {
			v[2 * i] = __uint_as_float(word[i] << 16);
			v[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
		}
	} else {
#pragma unroll
		for (int i = 0; i < PACK; i++) v[i] = i < left ? to_float(p[i]) : 0.f;
	}
}
template <bool V> __device__ __forceinline__ void load8(float (&v)[PACK], const float* p, int left) {
	if constexpr (V) {
		const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
		v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
	} else {
#pragma unroll
		for (int i = 0; i < PACK; i++) v[i] = i < left ? p[i] : 0.f;
	}
}

// Stores the first min(8, left) elements, each rounded once.
template <bool V> __device__ __forceinline__ void store8(bf16* p, const float (&v)[PACK], int left) {
	if constexpr (V) {
		*reinterpret_cast<uint4*>(p) = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
	} else {
#pragma unroll
		for (int i = 0; i < PACK; i++)
			if (i < left) set(p[i], v[i]);
	}
}
template <bool V> __device__ __forceinline__ void store8(float* p, const float (&v)[PACK], int left) {
	if constexpr (V) {
		reinterpret_cast<float4*>(p)[0] = make_float4(v[0], v[1], v[2], v[3]);
		reinterpret_cast<float4*>(p)[1] = make_float4(v[4], v[5], v[6], v[7]);
	} else {
#pragma unroll
		for (int i = 0; i < PACK; i++)
			if (i < left) p[i] = v[i];
	}
}

// ---- four elements, for kernels whose operands are mostly float32: a warp's access of 16 bytes a
// lane then has no gaps

constexpr int QUAD = 4;

template <bool V> __device__ __forceinline__ void load4(float (&v)[QUAD], const float* p, int left) {
	if constexpr (V) {
		const float4 x = *reinterpret_cast<const float4*>(p);
		v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
	} else {
#pragma unroll
		for (int i = 0; i < QUAD; i++) v[i] = i < left ? p[i] : 0.f;
	}
}
template <bool V> __device__ __forceinline__ void load4(float (&v)[QUAD], const bf16* p, int left) {
	if constexpr (V) {
		const uint2 x = *reinterpret_cast<const uint2*>(p);
		v[0] = __uint_as_float(x.x << 16), v[1] = __uint_as_float(x.x & 0xffff0000u);
		v[2] = __uint_as_float(x.y << 16), v[3] = __uint_as_float(x.y & 0xffff0000u);
	} else {
#pragma unroll
		for (int i = 0; i < QUAD; i++) v[i] = i < left ? to_float(p[i]) : 0.f;
	}
}

// Stores the first min(4, left) elements, each rounded once.
template <bool V> __device__ __forceinline__ void store4(bf16* p, const float (&v)[QUAD], int left) {
	if constexpr (V) {
		*reinterpret_cast<uint2*>(p) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
	} else {
#pragma unroll
		for (int i = 0; i < QUAD; i++)
			if (i < left) set(p[i], v[i]);
	}
}
template <bool V> __device__ __forceinline__ void store4(float* p, const float (&v)[QUAD], int left) {
	if constexpr (V) {
		*reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
	} else {
#pragma unroll
		for (int i = 0; i < QUAD; i++)
			if (i < left) p[i] = v[i];
	}
}

// ---- sums over a block, in an order that its size fixes

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
	for (int d = 16; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
	return x;
}
__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
	for (int d = 16; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
	return x;
}

// The sum of x over the block, which is whole warps, in every thread. Each call of a kernel
// needs a partial of its own.
template <typename F> __device__ __forceinline__ F block_sum(F x, F (&partial)[32]) {
	x = warp_sum(x);
	if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
	__syncthreads();
	F sum = 0;
	for (int i = 0; i < blockDim.x / 32; i++) sum += partial[i];
	return sum;
}

// ---- indices

// Whether i is in [0, limit). If not, the operation of that number is at fault, which Sync
// reports: the kernel only has to stay away from memory.
__device__ __forceinline__ bool in_range(int i, int limit, int* fault, int operation) {
	if (0 <= i && i < limit) return true;
	atomicMax(fault, operation);
	return false;
}
