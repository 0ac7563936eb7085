"""check_triton.py LIBCUDA FOLDER: kernels compiled by Triton for sm_80, against numpy."""

import ctypes
import re
import sys

import numpy
import triton
import triton.language as tl
from device import Device, must
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def matmul(c, a, b, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """c [m, n] = a [m, k] b [k, n], for sizes that are multiples of the tiles."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    at, bt = a + rows[:, None] * k + depth[None, :], b + depth[:, None] * n + columns[None, :]
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for _ in range(0, k, BK):
        total = tl.dot(tl.load(at), tl.load(bt), total)
        at += BK
        bt += BK * n
    tl.store(c + rows[:, None] * n + columns[None, :], total.to(tl.bfloat16))


@triton.jit
def softmax(out, x, n, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < n
    v = tl.load(x + row * n + column, mask=inside, other=-float("inf"))
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(out + row * n + column, e / tl.sum(e, axis=0), mask=inside)


@triton.jit
def arithmetic(out, x, y, n, BLOCK: tl.constexpr):
    """out [4, n]: x / y, the root of |x|, 2^x, x y - x."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    a, b = tl.load(x + i, mask=inside, other=1.0), tl.load(y + i, mask=inside, other=1.0)
    tl.store(out + i, tl.div_rn(a, b), mask=inside)
    tl.store(out + n + i, tl.sqrt_rn(tl.abs(a)), mask=inside)
    tl.store(out + 2 * n + i, tl.exp2(a), mask=inside)
    tl.store(out + 3 * n + i, tl.fma(a, b, -a), mask=inside)


@triton.jit
def integers(out, quotients, a, b, n, BLOCK: tl.constexpr):
    """out [4, n] int64, quotients [2, n] uint32; w and z are x y and x 2^20, signed or not."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    x, y = tl.load(a + i, mask=inside, other=1), tl.load(b + i, mask=inside, other=1)
    u, v = x.to(tl.uint32, bitcast=True), y.to(tl.uint32, bitcast=True)
    tl.store(quotients + i, u // v, mask=inside)
    tl.store(quotients + n + i, v // 5, mask=inside)
    w, z = x.to(tl.int64) * y, x.to(tl.int64) << 20
    p, q = w.to(tl.uint64, bitcast=True), z.to(tl.uint64, bitcast=True)
    tl.store(out + i, x // y * 1000 + x // 6, mask=inside)
    tl.store(out + n + i, (w >= z).to(tl.int64), mask=inside)
    tl.store(out + 2 * n + i, (p >= q).to(tl.int64), mask=inside)
    tl.store(out + 3 * n + i, tl.where(p < q, w - z, 5), mask=inside)


@triton.jit
def squares(out, x, n, BLOCK: tl.constexpr):
    """The sum of n squares, in float64."""
    total = tl.zeros((BLOCK,), dtype=tl.float64)
    for first in range(0, n, BLOCK):
        i = first + tl.arange(0, BLOCK)
        v = tl.load(x + i, mask=i < n, other=0.0).to(tl.float64)
        total += v * v
    tl.store(out, tl.sum(total, 0))


@triton.jit
def greatest(out, before, x, n, BLOCK: tl.constexpr):
    """out[j] becomes the maximum of itself and all x[i] with i = j modulo 7; before: what it was."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0)
    tl.store(before + i, tl.atomic_max(out + i % 7, v, mask=i < n, sem="relaxed"), mask=i < n)


@triton.jit
def numbers(products, common, where, x, y, z, n, BLOCK: tl.constexpr):
    """products uint32 and common uint16: x y and x & y, of uint16; where z is a number, 1, else 0."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    a, b, c = tl.load(x + i, mask=inside, other=0), tl.load(y + i, mask=inside, other=0), tl.load(z + i, mask=inside, other=0.0)
    tl.store(products + i, a.to(tl.uint32) * b.to(tl.uint32), mask=inside)
    tl.store(common + i, a & b, mask=inside)
    tl.store(where + i, tl.where(c == c, 1, 0), mask=inside)


@triton.jit
def gather(out, x, where, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.gather(tl.load(x + i), tl.load(where + i), 0))


def bf16(x):
    bits = numpy.asarray(x, numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def widen(h):
    return (h.astype(numpy.uint32) << 16).view(numpy.float32).astype(numpy.float64)


class Compiled:
    """aligned: the positions of arguments that are multiples of 16."""

    def __init__(self, function, signature, constants, aligned, warps, stages):
        signature = signature | dict.fromkeys(constants, "constexpr")
        attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
        source = ASTSource(function, signature, constants, attributes)
        self.binary = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": warps, "num_stages": stages})
        self.ptx, self.shared, self.threads = self.binary.asm["ptx"], self.binary.metadata.shared, 32 * warps
        self.kernel = device.kernel(self.ptx, self.binary.metadata.name, self.shared)

    def __call__(self, grid, *args):
        # Scratch pointers, which these kernels do not use, come after the arguments.
        header = self.ptx[self.ptx.index(".entry") : self.ptx.index("{", self.ptx.index(".entry"))]
        missing = len(re.findall(r"\.param", header)) - len(args)
        device.launch(self.kernel, grid, self.threads, list(args) + [ctypes.c_uint64(0)] * missing, self.shared)


device = Device(sys.argv[1])
random = numpy.random.default_rng(1)

m, n, k = 128, 192, 256
a, b = bf16(random.standard_normal((m, k))), bf16(random.standard_normal((k, n)))
compiled = Compiled(matmul, {"c": "*bf16", "a": "*bf16", "b": "*bf16", "n": "i32", "k": "i32"}, {"BM": 64, "BN": 64, "BK": 32}, range(5), 4, 3)
for instruction in ["mma.sync", "ldmatrix.sync.aligned.m8n8.x4.shared", "ldmatrix.sync.aligned.m8n8.x4.trans", "cp.async"]:
    if instruction not in compiled.ptx:
        raise SystemExit(f"Triton's product has no {instruction}: it proves nothing of it")
out = device.alloc(m * n * 2)
compiled((m // 64, n // 64, 1), out, device.upload(a), device.upload(b), ctypes.c_int32(n), ctypes.c_int32(k))
got, want = device.download(out, (m, n), numpy.uint16), widen(a) @ widen(b)
far = numpy.abs(widen(got) - want) > 2**-8 * numpy.abs(want) + k * 2**-22
print(f"triton matmul: {(got != bf16(want)).sum()} of {got.size} values are not the rounded product in float64")
must(not far.any(), "triton matmul")

rows, n = 5, 300
x = random.standard_normal((rows, n)).astype(numpy.float32)
compiled = Compiled(softmax, {"out": "*fp32", "x": "*fp32", "n": "i32"}, {"BLOCK": 512}, range(2), 4, 1)
out = device.alloc(x.nbytes)
compiled((rows, 1, 1), out, device.upload(x), ctypes.c_int32(n))
e = numpy.exp(x.astype(numpy.float64) - x.max(axis=1, keepdims=True))
want = e / e.sum(axis=1, keepdims=True)
must((numpy.abs(device.download(out, x.shape, numpy.float32) - want) <= 1e-6 * want).all(), "triton softmax")

n = 500
x, y = (random.standard_normal(n).astype(numpy.float32) for _ in range(2))
compiled = Compiled(arithmetic, {"out": "*fp32", "x": "*fp32", "y": "*fp32", "n": "i32"}, {"BLOCK": 128}, (), 4, 1)
out = device.alloc(4 * x.nbytes)
compiled((4, 1, 1), out, device.upload(x), device.upload(y), ctypes.c_int32(n))
got, wide = device.download(out, (4, n), numpy.float32), x.astype(numpy.float64)
must(numpy.array_equal(got[0], x / y) and numpy.array_equal(got[1], numpy.sqrt(numpy.abs(x))), "triton division and root, to the bit")
must((numpy.abs(got[2] - numpy.exp2(wide)) <= 2**-21 * numpy.exp2(wide)).all(), "triton exp2")
# The product of two float32 is exact in float64, whose sum with a third is off by 2^-53 of it at most.
must((numpy.abs(got[3] - (wide * y - wide)) <= (2**-24 + 2**-50) * numpy.abs(wide * y - wide) + 2**-52 * numpy.abs(wide)).all(), "triton fma")

a = random.integers(-(2**31), 2**31, n, dtype=numpy.int32)
b = random.integers(1, 2**31, n, dtype=numpy.int32) >> random.integers(0, 30, n, dtype=numpy.int32) | 1
b[::2] *= -1
compiled = Compiled(integers, {"out": "*i64", "quotients": "*u32", "a": "*i32", "b": "*i32", "n": "i32"}, {"BLOCK": 128}, (), 4, 1)
out, quotients = device.alloc(4 * n * 8), device.alloc(2 * n * 4)
compiled((4, 1, 1), out, quotients, device.upload(a), device.upload(b), ctypes.c_int32(n))
u, v, x, y = a.view(numpy.uint32), b.view(numpy.uint32), a.astype(numpy.int64), b.astype(numpy.int64)
must(numpy.array_equal(device.download(quotients, (2, n), numpy.uint32), [u // v, v // 5]), "triton quotients of uint32")
w, z = x * y, x << 20
p, q = w.view(numpy.uint64), z.view(numpy.uint64)
toward_zero = numpy.trunc(x / y).astype(numpy.int64), numpy.trunc(x / 6).astype(numpy.int64)
first = (toward_zero[0] * 1000 + toward_zero[1]).astype(numpy.int32)  # in 32 bits, as there
must(numpy.array_equal(device.download(out, (4, n), numpy.int64), [first, w >= z, p >= q, numpy.where(p < q, w - z, 5)]), "triton integers")

x = random.standard_normal(1000).astype(numpy.float32)
compiled = Compiled(squares, {"out": "*fp64", "x": "*fp32", "n": "i32"}, {"BLOCK": 256}, range(2), 4, 1)
out = device.alloc(8)
compiled((1, 1, 1), out, device.upload(x), ctypes.c_int32(x.size))
want = (x.astype(numpy.float64) ** 2).sum()
must(abs(device.download(out, 1, numpy.float64)[0] - want) <= x.size * 2**-53 * want, "triton sum of squares in float64")

x, start = (random.integers(-1000, 1000, size, dtype=numpy.int32) for size in (n, 7))
compiled = Compiled(greatest, {"out": "*i32", "before": "*i32", "x": "*i32", "n": "i32"}, {"BLOCK": 128}, (), 4, 1)
out, before = device.upload(start), device.alloc(x.nbytes)
compiled((4, 1, 1), out, before, device.upload(x), ctypes.c_int32(n))
final, was = numpy.array([max(start[j], x[j::7].max()) for j in range(7)]), device.download(before, n, numpy.int32)
between = (was >= start[numpy.arange(n) % 7]) & (was <= final[numpy.arange(n) % 7])
must(numpy.array_equal(device.download(out, 7, numpy.int32), final) and between.all(), "triton atomic_max")

x, where = random.standard_normal(32).astype(numpy.float32), random.integers(0, 32, 32, dtype=numpy.int32)
compiled = Compiled(gather, {"out": "*fp32", "x": "*fp32", "where": "*i32"}, {"N": 32}, (), 1, 1)
out = device.alloc(x.nbytes)
compiled((1, 1, 1), out, device.upload(x), device.upload(where))
must(numpy.array_equal(device.download(out, 32, numpy.float32), x[where]), "triton gather")

n = 500
x, y = (random.integers(0, 2**16, n).astype(numpy.uint16) for _ in range(2))
z = numpy.where(random.random(n) < 0.3, numpy.nan, random.standard_normal(n)).astype(numpy.float32)
compiled = Compiled(numbers, {"products": "*u32", "common": "*u16", "where": "*i32", "x": "*u16", "y": "*u16", "z": "*fp32", "n": "i32"}, {"BLOCK": 128}, (), 4, 1)
products, common, where = device.alloc(4 * n), device.alloc(2 * n), device.alloc(4 * n)
compiled((4, 1, 1), products, common, where, device.upload(x), device.upload(y), device.upload(z), ctypes.c_int32(n))
must((device.download(products, n, numpy.uint32) == x.astype(numpy.uint32) * y).all(), "triton products of uint16")
must((device.download(common, n, numpy.uint16) == x & y).all(), "triton bits of uint16")
must((device.download(where, n, numpy.int32) == ~numpy.isnan(z)).all(), "triton where a float is a number")
