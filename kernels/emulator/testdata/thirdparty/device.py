"""The CUDA driver through ctypes, as little of it as the checks need."""

import ctypes

import numpy


class Device:
    def __init__(self, library):
        self.driver = ctypes.CDLL(library)
        context = ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxSetCurrent", context)

    def call(self, name, *args):
        code = getattr(self.driver, name)(*args)
        if code != 0:
            raise SystemExit(f"{name}: error {code}")

    def kernel(self, ptx, name, shared=0):
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(ptx.encode()))
        self.call("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(name.encode()))
        if shared > 48 << 10:
            self.call("cuFuncSetAttribute", function, 8, shared)
        return function

    def alloc(self, size):
        p = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(p), ctypes.c_size_t(size))
        return p

    def upload(self, array):
        p = self.alloc(array.nbytes)
        self.call("cuMemcpyHtoD_v2", p, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes))
        return p

    def download(self, p, shape, dtype):
        array = numpy.empty(shape, dtype)
        self.call("cuMemcpyDtoH_v2", array.ctypes.data_as(ctypes.c_void_p), p, ctypes.c_size_t(array.nbytes))
        return array

    def launch(self, function, grid, threads, args, shared=0):
        """args are ctypes values."""
        pointers = (ctypes.c_void_p * len(args))(*[ctypes.cast(ctypes.pointer(a), ctypes.c_void_p) for a in args])
        self.call("cuLaunchKernel", function, *grid, threads, 1, 1, shared, None, pointers, None)
        self.call("cuCtxSynchronize")


def must(ok, what):
    if not ok:
        raise SystemExit(f"{what}: wrong")
    print(f"{what}: as numpy")
