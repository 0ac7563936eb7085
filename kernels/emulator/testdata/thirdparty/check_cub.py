"""check_cub.py LIBCUDA FOLDER: CUB's primitives against numpy."""

import ctypes
import sys

import numpy
from device import Device, must

THREADS, ITEMS = 128, 4

device = Device(sys.argv[1])
ptx = open(sys.argv[2] + "/cub.ptx").read()
random = numpy.random.default_rng(1)


def run(name, x, size):
    out = device.alloc(size * x.itemsize)
    device.launch(device.kernel(ptx, name), (1, 1, 1), THREADS, [out, device.upload(x)])
    return device.download(out, size, x.dtype)


x = random.standard_normal(THREADS).astype(numpy.float32)
total, scale = run("block_sum", x, 1)[0], numpy.abs(x).sum()
must(abs(total - x.astype(numpy.float64).sum()) <= THREADS * 2**-24 * scale, "cub::BlockReduce")

x = random.integers(-1000, 1000, THREADS * ITEMS, dtype=numpy.int32)
must(numpy.array_equal(run("block_scan", x, x.size), numpy.cumsum(x) - x), "cub::BlockScan")

x = random.integers(0, 2**32, THREADS * ITEMS, dtype=numpy.uint32)
must(numpy.array_equal(run("block_sort", x, x.size), numpy.sort(x)), "cub::BlockRadixSort")

x = random.standard_normal(THREADS)
total, scale = run("block_sum_double", x, 1)[0], numpy.abs(x).sum()
must(abs(total - x.sum()) <= THREADS * 2**-53 * scale, "cub::BlockReduce of float64")

for name, low, high, dtype in [("long", -(2**62), 2**62, numpy.int64), ("short", 0, 2**16, numpy.uint16)]:
    x = random.integers(low, high, THREADS * ITEMS, dtype=dtype)
    must(numpy.array_equal(run("block_sort_" + name, x, x.size), numpy.sort(x)), f"cub::BlockRadixSort of {dtype.__name__}")

n, x = 300, random.integers(-50, 50, THREADS * ITEMS, dtype=numpy.int16)
order, out = device.alloc(x.size * 8), device.alloc(x.nbytes)
device.launch(device.kernel(ptx, "block_merge"), (1, 1, 1), THREADS, [order, out, device.upload(x), ctypes.c_int32(n)])
want = numpy.argsort(x[:n], kind="stable")
sorted_right = numpy.array_equal(device.download(out, x.size, x.dtype)[:n], x[want])
must(sorted_right and numpy.array_equal(device.download(order, x.size, numpy.int64)[:n], want), "cub::BlockMergeSort")

for name, size in [("block_copy", 4), ("block_copy_cached", 4), ("block_copy_cached_pairs", 2)]:
    x = random.integers(-(2**31), 2**31, THREADS * size, dtype=numpy.int32)
    must(numpy.array_equal(run(name, x, x.size), x), f"cub::BlockLoad, {name}")

for name, dtype, width in [("short", numpy.int16, 1), ("double", numpy.float64, 1), ("pair", numpy.float32, 2), ("four", numpy.float32, 4)]:
    x = (1000 * random.standard_normal((THREADS * ITEMS, width))).astype(dtype)
    out = device.alloc(x.nbytes)
    device.launch(device.kernel(ptx, "block_transpose_" + name), (1, 1, 1), THREADS, [out, device.upload(x), ctypes.c_int32(n)])
    x[n:] = 0
    must(numpy.array_equal(device.download(out, x.shape, dtype), x), f"cub::BlockLoad and BlockStore, {name}")

x, head = random.integers(-1000, 1000, 32, dtype=numpy.int32), (random.random(32) < 0.3).astype(numpy.int32)
head[0] = 1
at = numpy.flatnonzero(head)
out = device.alloc(x.nbytes)
device.launch(device.kernel(ptx, "warp_segments"), (1, 1, 1), 32, [out, device.upload(x), device.upload(head)])
must(numpy.array_equal(device.download(out, 32, x.dtype)[at], numpy.add.reduceat(x, at)), "cub::WarpReduce of segments")

where = random.integers(0, 32, 32, dtype=numpy.int32)
device.launch(device.kernel(ptx, "warp_gather"), (1, 1, 1), 32, [out, device.upload(x), device.upload(where)])
must(numpy.array_equal(device.download(out, 32, x.dtype), x[where]), "cub::ShuffleIndex")

device.launch(device.kernel(ptx, "warp_max"), (1, 1, 1), 32, [out, device.upload(x)])
must(numpy.array_equal(device.download(out, 32, x.dtype), numpy.maximum.accumulate(x)), "cub::WarpScan of the maximum")
