// Functions of libcu++, of Thrust's generators and of the toolkit's headers; one element a thread.
#include <cuComplex.h>
#include <cuda/bit>
#include <cuda/cmath>
#include <cuda/functional>
#include <cuda/pipeline>
#include <cuda/std/bit>
#include <cuda/std/complex>
#include <cuda/std/numeric>
#include <cuda_bf16.h>
#include <thrust/random.h>

namespace std_ = cuda::std;
typedef std_::complex<float> Complex;
typedef std_::complex<double> Complex64;

constexpr int THREADS = 128;
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)

// ---- complex numbers

KERNEL complex_divide(Complex* out, const Complex* a, const Complex* b) { out[threadIdx.x] = a[threadIdx.x] / b[threadIdx.x]; }
KERNEL complex_divide_scaled(cuFloatComplex* out, const cuFloatComplex* a, const cuFloatComplex* b) { out[threadIdx.x] = cuCdivf(a[threadIdx.x], b[threadIdx.x]); }
KERNEL complex_sqrt(Complex* out, const Complex* a) { out[threadIdx.x] = std_::sqrt(a[threadIdx.x]); }
KERNEL complex_exp(Complex* out, const Complex* a) { out[threadIdx.x] = std_::exp(a[threadIdx.x]); }
KERNEL complex_tanh(Complex* out, const Complex* a) { out[threadIdx.x] = std_::tanh(a[threadIdx.x]); }
KERNEL complex_log(Complex* out, const Complex* a) { out[threadIdx.x] = std_::log(a[threadIdx.x]); }
KERNEL complex_product(Complex64* out, const Complex64* a, const Complex64* b) { out[threadIdx.x] = a[threadIdx.x] * b[threadIdx.x]; }
KERNEL complex_norm(double* out, const Complex* a) { out[threadIdx.x] = std_::norm(Complex64(a[threadIdx.x])); }

// ---- real numbers

KERNEL fast_tangent(float* out, const float* a) { out[threadIdx.x] = __tanf(a[threadIdx.x]); }
KERNEL exponential(float* out, const float* a) { out[threadIdx.x] = expf(a[threadIdx.x]); }
KERNEL bfloat16_pairs(__nv_bfloat162* out, const float2* a) { out[threadIdx.x] = __float22bfloat162_rn(a[threadIdx.x]); }

// ---- integers

KERNEL bits(unsigned* out, const unsigned* a, const unsigned* b) {
	const unsigned x = a[threadIdx.x], y = b[threadIdx.x];
	unsigned* o = out + threadIdx.x * 6;
	o[0] = std_::countl_zero(x);
	o[1] = std_::countr_zero(x);
	o[2] = cuda::bit_reverse(x);
	o[3] = cuda::bitfield_insert(x, y, 29, 3);
	o[4] = cuda::bitfield_insert(x, y, 5, 13);
	o[5] = std_::rotl(x, (int)(y & 31));
}

// a and b are not 0.
template <class T> __device__ __forceinline__ void quotients_of(T* out, const T* a, const T* b) {
	const T x = a[threadIdx.x], y = b[threadIdx.x];
	T* o = out + threadIdx.x * 6;
	o[0] = cuda::ceil_div(x, y);
	o[1] = cuda::round_up(x, (T)7);
	o[2] = std_::gcd(x, y);
	o[3] = std_::midpoint(x, y);
	o[4] = cuda::minimum<>{}(x, y);
	o[5] = cuda::maximum<>{}(x, y);
}
KERNEL quotients_int32(int* out, const int* a, const int* b) { quotients_of(out, a, b); }
KERNEL quotients_uint32(unsigned* out, const unsigned* a, const unsigned* b) { quotients_of(out, a, b); }
KERNEL quotients_int64(long long* out, const long long* a, const long long* b) { quotients_of(out, a, b); }
KERNEL quotients_uint64(unsigned long long* out, const unsigned long long* a, const unsigned long long* b) { quotients_of(out, a, b); }
KERNEL quotients_uint16(unsigned short* out, const unsigned short* a, const unsigned short* b) { quotients_of(out, a, b); }

// ---- memory: 8 bytes a thread, copied to shared memory behind the threads' back, and out in reverse

struct alignas(8) Eight {
	unsigned short v[4];
};
KERNEL reversed(Eight* out, const Eight* x) {
	__shared__ Eight buffer[THREADS];
	auto pipe = cuda::make_pipeline();
	pipe.producer_acquire();
	cuda::memcpy_async(&buffer[threadIdx.x], &x[threadIdx.x], cuda::aligned_size_t<8>(8), pipe);
	pipe.producer_commit();
	pipe.consumer_wait();
	__syncthreads();
	out[threadIdx.x] = buffer[THREADS - 1 - threadIdx.x];
	pipe.consumer_release();
}

// ---- random numbers: the one after `skip` others, seeded by the thread

KERNEL generators(unsigned* out, int skip) {
	thrust::random::minstd_rand linear(threadIdx.x + 1);
	linear.discard(skip);
	out[threadIdx.x] = linear();
}
