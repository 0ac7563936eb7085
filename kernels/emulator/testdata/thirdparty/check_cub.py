"""check_cub.py LIBCUDA FOLDER: CUB's block primitives against numpy."""

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
