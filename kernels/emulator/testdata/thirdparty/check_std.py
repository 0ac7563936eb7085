"""check_std.py LIBCUDA FOLDER: libcu++, Thrust's generators and the toolkit's headers, against numpy."""

import ctypes
import math
import sys

import numpy
from device import Device, must

THREADS = 128

device = Device(sys.argv[1])
ptx = open(sys.argv[2] + "/std.ptx").read()
random = numpy.random.default_rng(1)


def run(name, arrays, dtype, width=1):
    out = device.alloc(THREADS * width * numpy.dtype(dtype).itemsize)
    device.launch(device.kernel(ptx, name), (1, 1, 1), THREADS, [out] + [device.upload(a) for a in arrays])
    return device.download(out, (THREADS, width), dtype).squeeze()


def near(got, want, bound, what):
    must((numpy.abs(got - want) <= bound * numpy.abs(want)).all(), what)


def normal(dtype=numpy.complex64):
    return (random.standard_normal(THREADS) + 1j * random.standard_normal(THREADS)).astype(dtype)


# ---- complex numbers: bounds are relative to the absolute value

a, b = normal(), normal()
wide = a.astype(numpy.complex128)
near(run("complex_divide", [a, b], a.dtype), wide / b, 1e-6, "cuda::std::complex, /")
near(run("complex_divide_scaled", [a, b], a.dtype), wide / b, 1e-6, "cuCdivf")
for name, bound in [("sqrt", 2e-6), ("exp", 2e-6), ("tanh", 1e-5)]:  # of tanh: near its poles
    near(run("complex_" + name, [a], a.dtype), getattr(numpy, name)(wide), bound, f"cuda::std::{name} of complex")
must((numpy.abs(run("complex_log", [a], a.dtype) - numpy.log(wide)) <= 1e-6).all(), "cuda::std::log of complex")
near(run("complex_norm", [a], numpy.float64), wide.real**2 + wide.imag**2, 2**-51, "cuda::std::norm of complex")
a, b = normal(numpy.complex128), normal(numpy.complex128)
must((numpy.abs(run("complex_product", [a, b], a.dtype) - a * b) <= 2**-50 * numpy.abs(a) * numpy.abs(b)).all(), "cuda::std::complex, *")

# ---- real numbers

x = random.uniform(-1.5, 1.5, THREADS).astype(numpy.float32)
near(run("fast_tangent", [x], x.dtype), numpy.tan(x.astype(numpy.float64)), 1e-4, "__tanf")
x = random.uniform(-80, 80, THREADS).astype(numpy.float32)
near(run("exponential", [x], x.dtype), numpy.exp(x.astype(numpy.float64)), 2**-22, "expf")
x = random.standard_normal((THREADS, 2)).astype(numpy.float32)
word = x.view(numpy.uint32)
want = ((word + 0x7FFF + (word >> 16 & 1)) >> 16).astype(numpy.uint16)
must(numpy.array_equal(run("bfloat16_pairs", [x], numpy.uint16, 2), want), "__float22bfloat162_rn")

# ---- integers


def insert(to, field, start, width):
    mask = (1 << width) - 1 << start
    return to & ~mask | field << start & mask


def bits(a, b):
    """By Python's unbounded integers."""
    digits = f"{a:032b}"
    rotation = b & 31
    rotated = (a << rotation | a >> 32 - rotation) & 0xFFFFFFFF
    leading, trailing = len(digits) - len(digits.lstrip("0")), len(digits) - len(digits.rstrip("0"))
    return [leading, trailing, int(digits[::-1], 2), insert(a, b, 29, 3), insert(a, b, 5, 13), rotated]


def quotients(a, b):
    middle = a + (b - a) // 2 if b >= a else a - (a - b) // 2
    return [-(-a // b), -(-a // 7) * 7, math.gcd(a, b), middle, min(a, b), max(a, b)]


def by_python(function, a, b, dtype):
    return numpy.array([function(int(x), int(y)) for x, y in zip(a, b)], dtype)


a, b = (random.integers(0, 2**32, THREADS, dtype=numpy.uint32) for _ in range(2))
a >>= random.integers(0, 32, THREADS, dtype=numpy.uint32)
a[0] = 0
must(numpy.array_equal(run("bits", [a, b], a.dtype, 6), by_python(bits, a, b, a.dtype)), "cuda::std's and cuda's functions of bits")

for dtype in [numpy.int32, numpy.uint32, numpy.int64, numpy.uint64, numpy.uint16]:
    digits = 8 * numpy.dtype(dtype).itemsize - 2
    a, b = ((random.integers(0, 2**digits, THREADS, dtype=dtype) >> random.integers(0, digits, THREADS, dtype=dtype)) | dtype(1) for _ in range(2))
    got = run(f"quotients_{dtype.__name__}", [a, b], dtype, 6)
    must(numpy.array_equal(got, by_python(quotients, a, b, dtype)), f"cuda::std's functions of {dtype.__name__}")

# ---- memory

x = random.integers(0, 2**16, (THREADS, 4), dtype=numpy.uint16)
must(numpy.array_equal(run("reversed", [x], x.dtype, 4), x[::-1]), "cuda::memcpy_async of 8 bytes")

# ---- random numbers: minstd_rand is x' = 48271 x modulo 2^31 - 1

skip, prime = 1000, 2**31 - 1
out = device.alloc(THREADS * 4)
device.launch(device.kernel(ptx, "generators"), (1, 1, 1), THREADS, [out, ctypes.c_int32(skip)])
want = [(seed * pow(48271, skip + 1, prime)) % prime for seed in range(1, THREADS + 1)]
must(numpy.array_equal(device.download(out, THREADS, numpy.uint32), want), "thrust::random::minstd_rand")
