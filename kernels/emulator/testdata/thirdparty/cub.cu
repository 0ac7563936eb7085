// CUB's block primitives over one block of 128 threads, 4 elements each.
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>

constexpr int THREADS = 128, ITEMS = 4;

extern "C" __global__ void __launch_bounds__(THREADS) block_sum(float* out, const float* x) {
	typedef cub::BlockReduce<float, THREADS> Reduce;
	__shared__ typename Reduce::TempStorage storage;
	const float sum = Reduce(storage).Sum(x[threadIdx.x]);
	if (threadIdx.x == 0) out[0] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) block_scan(int* out, const int* x) {
	typedef cub::BlockScan<int, THREADS> Scan;
	__shared__ typename Scan::TempStorage storage;
	int items[ITEMS];
	for (int i = 0; i < ITEMS; i++) items[i] = x[threadIdx.x * ITEMS + i];
	Scan(storage).ExclusiveSum(items, items);
	for (int i = 0; i < ITEMS; i++) out[threadIdx.x * ITEMS + i] = items[i];
}

extern "C" __global__ void __launch_bounds__(THREADS) block_sort(unsigned* out, const unsigned* x) {
	typedef cub::BlockRadixSort<unsigned, THREADS, ITEMS> Sort;
	__shared__ typename Sort::TempStorage storage;
	unsigned items[ITEMS];
	for (int i = 0; i < ITEMS; i++) items[i] = x[threadIdx.x * ITEMS + i];
	Sort(storage).Sort(items);
	for (int i = 0; i < ITEMS; i++) out[threadIdx.x * ITEMS + i] = items[i];
}
