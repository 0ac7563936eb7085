// CUB's primitives over one block of 128 threads, 4 elements each.
#include <cub/block/block_load.cuh>
#include <cub/block/block_merge_sort.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>
#include <cub/iterator/cache_modified_input_iterator.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <cub/warp/warp_scan.cuh>

constexpr int THREADS = 128, ITEMS = 4;

// ---- blocks

template <class T> __device__ __forceinline__ void sum_of(T* out, const T* x) {
	typedef cub::BlockReduce<T, THREADS> Reduce;
	__shared__ typename Reduce::TempStorage storage;
	const T sum = Reduce(storage).Sum(x[threadIdx.x]);
	if (threadIdx.x == 0) out[0] = sum;
}
extern "C" __global__ void __launch_bounds__(THREADS) block_sum(float* out, const float* x) { sum_of(out, x); }
extern "C" __global__ void __launch_bounds__(THREADS) block_sum_double(double* out, const double* x) { sum_of(out, x); }

extern "C" __global__ void __launch_bounds__(THREADS) block_scan(int* out, const int* x) {
	typedef cub::BlockScan<int, THREADS> Scan;
	__shared__ typename Scan::TempStorage storage;
	int items[ITEMS];
	for (int i = 0; i < ITEMS; i++) items[i] = x[threadIdx.x * ITEMS + i];
	Scan(storage).ExclusiveSum(items, items);
	for (int i = 0; i < ITEMS; i++) out[threadIdx.x * ITEMS + i] = items[i];
}

template <class T> __device__ __forceinline__ void sort_of(T* out, const T* x) {
	typedef cub::BlockRadixSort<T, THREADS, ITEMS> Sort;
	__shared__ typename Sort::TempStorage storage;
	T items[ITEMS];
	for (int i = 0; i < ITEMS; i++) items[i] = x[threadIdx.x * ITEMS + i];
	Sort(storage).Sort(items);
	for (int i = 0; i < ITEMS; i++) out[threadIdx.x * ITEMS + i] = items[i];
}
extern "C" __global__ void __launch_bounds__(THREADS) block_sort(unsigned* out, const unsigned* x) { sort_of(out, x); }
extern "C" __global__ void __launch_bounds__(THREADS) block_sort_long(long long* out, const long long* x) { sort_of(out, x); }
extern "C" __global__ void __launch_bounds__(THREADS) block_sort_short(unsigned short* out, const unsigned short* x) { sort_of(out, x); }

// The first n keys and where they were, sorted so that equal ones stay in order.
extern "C" __global__ void __launch_bounds__(THREADS) block_merge(long long* order, short* out, const short* x, int n) {
	typedef cub::BlockMergeSort<short, THREADS, ITEMS, long long> Sort;
	__shared__ typename Sort::TempStorage storage;
	short keys[ITEMS];
	long long values[ITEMS];
	for (int i = 0; i < ITEMS; i++) keys[i] = x[threadIdx.x * ITEMS + i], values[i] = threadIdx.x * ITEMS + i;
	Sort(storage).StableSort(keys, values, cuda::std::less<>{}, n, (short)32767);
	for (int i = 0; i < ITEMS; i++) out[threadIdx.x * ITEMS + i] = keys[i], order[threadIdx.x * ITEMS + i] = values[i];
}

// As vectors, through the read-only cache or not.
template <cub::CacheLoadModifier HOW, int N, class T> __device__ __forceinline__ void copy_of(T* out, T* x) {
	typedef cub::BlockLoad<T, THREADS, N, cub::BLOCK_LOAD_VECTORIZE> Load;
	typedef cub::BlockStore<T, THREADS, N, cub::BLOCK_STORE_VECTORIZE> Store;
	T items[N];
	Load().Load(cub::CacheModifiedInputIterator<HOW, T>(x), items);
	Store().Store(out, items);
}
extern "C" __global__ void __launch_bounds__(THREADS) block_copy(int* out, int* x) { copy_of<cub::LOAD_DEFAULT, ITEMS>(out, x); }
extern "C" __global__ void __launch_bounds__(THREADS) block_copy_cached(int* out, int* x) { copy_of<cub::LOAD_LDG, ITEMS>(out, x); }
extern "C" __global__ void __launch_bounds__(THREADS) block_copy_cached_pairs(int* out, int* x) { copy_of<cub::LOAD_LDG, 2>(out, x); }

// The first n elements, and zeros: from threads that hold strided ones to threads that hold
// ITEMS in a row, through shared memory, and back. Loaded through the read-only cache.
template <class T> __device__ __forceinline__ void transposed(T* out, T* x, int n) {
	typedef cub::BlockLoad<T, THREADS, ITEMS, cub::BLOCK_LOAD_WARP_TRANSPOSE> Load;
	typedef cub::BlockStore<T, THREADS, ITEMS, cub::BLOCK_STORE_TRANSPOSE> Store;
	__shared__ union {
		typename Load::TempStorage load;
		typename Store::TempStorage store;
	} storage;
	T items[ITEMS];
	Load(storage.load).Load(cub::CacheModifiedInputIterator<cub::LOAD_LDG, T>(x), items, n, T{});
	__syncthreads();
	Store(storage.store).Store(out, items);
}
extern "C" __global__ void __launch_bounds__(THREADS) block_transpose_short(short* out, short* x, int n) { transposed(out, x, n); }
extern "C" __global__ void __launch_bounds__(THREADS) block_transpose_double(double* out, double* x, int n) { transposed(out, x, n); }
extern "C" __global__ void __launch_bounds__(THREADS) block_transpose_pair(float2* out, float2* x, int n) { transposed(out, x, n); }
extern "C" __global__ void __launch_bounds__(THREADS) block_transpose_four(float4* out, float4* x, int n) { transposed(out, x, n); }

// ---- warps

// At the head of each segment, its sum.
extern "C" __global__ void __launch_bounds__(32) warp_segments(int* out, const int* x, const int* head) {
	typedef cub::WarpReduce<int> Reduce;
	__shared__ typename Reduce::TempStorage storage;
	out[threadIdx.x] = Reduce(storage).HeadSegmentedSum(x[threadIdx.x], head[threadIdx.x]);
}

extern "C" __global__ void __launch_bounds__(32) warp_gather(int* out, const int* x, const int* from) {
	out[threadIdx.x] = cub::ShuffleIndex<32>(x[threadIdx.x], from[threadIdx.x], 0xffffffffu);
}

extern "C" __global__ void __launch_bounds__(32) warp_max(int* out, const int* x) {
	typedef cub::WarpScan<int> Scan;
	__shared__ typename Scan::TempStorage storage;
	int most;
	Scan(storage).InclusiveScan(x[threadIdx.x], most, cuda::maximum<>{});
	out[threadIdx.x] = most;
}
