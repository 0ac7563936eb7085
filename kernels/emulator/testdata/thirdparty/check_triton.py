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
