//go:build ignore

// Runs kernels on the emulator, as a program that is linked with its libcuda.so.1:
//
//   check FOLDER CASE     FOLDER has sound.ptx and mistakes.ptx
//
// A sound case ends with 0 if the results are right; a mistake, with another status and
// the emulator's message. emulator_test.go has the list of both.
#include "check.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "testdata/expressions.h"

std::string folder;

static std::mt19937_64 generator(1);

static double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(generator); }

static uint16_t to_bf16(float x) {
	uint32_t bits;
	memcpy(&bits, &x, 4);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static float from_bf16(uint16_t h) {
	const uint32_t bits = (uint32_t)h << 16;
	float x;
	memcpy(&x, &bits, 4);
	return x;
}

// ---- tensor cores

static void matmul() {
	const int m = 64, n = 48, k = 96;
	std::vector<uint16_t> a(m * k), b(k * n);
	for (auto& x : a) x = to_bf16((float)uniform(-1, 1));
	for (auto& x : b) x = to_bf16((float)uniform(-1, 1));
	Device<uint16_t> da(a), db(b);
	Device<float> dc(m * n);
	run(load_kernel("sound.ptx", "matmul"), {n / 16, m / 32, 64}, {&dc.p, &da.p, &db.p, &n, &k});
	const auto c = dc.values();
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++) {
			double sum = 0, size = 0;
			for (int x = 0; x < k; x++) {
				const double product = (double)from_bf16(a[i * k + x]) * from_bf16(b[x * n + j]);
				sum += product, size += std::fabs(product);
			}
			constexpr double UNIT = 0x1p-22;  // of float sums that are cut off, which EMULATOR_TRUNCATE makes
			if (!(std::fabs(c[i * n + j] - sum) <= k / 8 * UNIT * size)) stop("matmul: element " + std::to_string(i) + "," + std::to_string(j));
		}
}

// ---- reductions, atomics, divergence

static void sum_and_count() {
	const int n = 1000;
	std::vector<int> x(n);
	for (auto& v : x) v = (int)(generator() % 16);
	Device<int> dx(x);
	Device<unsigned long long> sum(std::vector<unsigned long long>{5});
	Device<unsigned> counts(std::vector<unsigned>(16, 0));
	run(load_kernel("sound.ptx", "sum_and_count"), {3, 1, 128}, {&sum.p, &counts.p, &dx.p, &n});
	unsigned long long want = 5;
	std::vector<unsigned> want_counts(16, 0);
	for (int v : x) want += (unsigned)v, want_counts[(size_t)v]++;
	if (sum.values()[0] != want || counts.values() != want_counts) stop("sum_and_count: wrong");
}

static void collatz() {
	const int n = 100;
	std::vector<unsigned> x(n);
	for (int i = 0; i < n; i++) x[i] = (unsigned)i + 1;
	Device<unsigned> dx(x);
	Device<int> steps(n);
	run(load_kernel("sound.ptx", "collatz"), {2, 1, 64}, {&steps.p, &dx.p, &n});
	const auto got = steps.values();
	for (int i = 0; i < n; i++) {
		int count = 0;
		for (unsigned v = x[i]; v != 1; count++) v = v & 1 ? 3 * v + 1 : v / 2;
		if (got[i] != count) stop("collatz: wrong at " + std::to_string(i));
	}
}

// ---- loads, stores, conversions

static void vectors() {
	const int n = 32;
	std::vector<float> x(4 * n);
	for (auto& v : x) v = (float)uniform(-100, 100);
	Device<float> dx(x), quads(4 * n);
	Device<double> pairs(2 * n);
	Device<uint8_t> bytes(2 * n);
	Device<uint32_t> halves(n);
	run(load_kernel("sound.ptx", "vectors"), {1, 1, n}, {&quads.p, &pairs.p, &bytes.p, &halves.p, &dx.p});
	const auto q = quads.values();
	const auto p = pairs.values();
	const auto b = bytes.values();
	const auto h = halves.values();
	for (int i = 0; i < n; i++) {
		const float* v = &x[4 * i];
		bool ok = p[2 * i] == (double)v[0] + v[1] && p[2 * i + 1] == (double)v[2] - v[3];
		for (int j = 0; j < 4; j++) ok = ok && q[4 * i + j] == v[3 - j];
		ok = ok && b[2 * i] == (uint8_t)(i * 3) && b[2 * i + 1] == (uint8_t)(i + 200);
		ok = ok && h[i] == ((uint32_t)to_bf16(v[1]) << 16 | to_bf16(v[0]));
		if (!ok) stop("vectors: wrong at " + std::to_string(i));
	}
}

// ---- expressions.h

template <int N> static void integer_row(int64_t* out, int64_t a, int64_t b) {
	if constexpr (N > 0) integer_row<N - 1>(out, a, b), out[N - 1] = integer_expression<N - 1>(a, b);
}
template <int N> static void float_row(float* out, float x, float y) {
	if constexpr (N > 0) float_row<N - 1>(out, x, y), out[N - 1] = float_expression<N - 1>(x, y);
}
template <int N> static void double_row(double* out, double x, double y) {
	if constexpr (N > 0) double_row<N - 1>(out, x, y), out[N - 1] = double_expression<N - 1>(x, y);
}

template <class T> using Row = void (*)(T* out, T a, T b);

// Compares a kernel's rows of expressions with those of this program.
template <class T> static void compare_rows(const char* kernel, const std::vector<T>& a, const std::vector<T>& b, int expressions, Row<T> row, Tolerance (*tolerance)(int)) {
	const int n = (int)a.size();
	Device<T> da(a), db(b), out((size_t)(n * expressions));
	run(load_kernel("sound.ptx", kernel), {(unsigned)(n + 63) / 64, 1, 64}, {&out.p, &da.p, &db.p, &n});
	const auto got = out.values();
	std::vector<T> want((size_t)expressions);
	for (int i = 0; i < n; i++) {
		row(want.data(), a[(size_t)i], b[(size_t)i]);
		for (int e = 0; e < expressions; e++) {
			const T g = got[(size_t)(i * expressions + e)], w = want[(size_t)e];
			const Tolerance t = tolerance(e);
			if (g == w) continue;
			if (std::fabs((double)g - (double)w) <= t.relative * std::fabs((double)w) + t.absolute) continue;
			std::ostringstream s;
			s.precision(17);
			s << kernel << ": expression " << e << " of " << a[(size_t)i] << " and " << b[(size_t)i] << " is " << g << ", not " << w;
			stop(s.str());
		}
	}
}

static void integers() {
	std::vector<int64_t> a, b;
	for (int i = 0; i < 300; i++) {
		a.push_back((int64_t)generator() >> generator() % 60);
		b.push_back(((int64_t)generator() >> generator() % 50) | 1);
	}
	compare_rows<int64_t>("integers", a, b, INTEGER_EXPRESSIONS, integer_row<INTEGER_EXPRESSIONS>, [](int) { return Tolerance{0, 0}; });
}

template <class T> static std::pair<std::vector<T>, std::vector<T>> operands() {
	std::vector<T> x, y;
	for (int i = 0; i < 300; i++) x.push_back((T)uniform(-8, 8)), y.push_back((T)uniform(0.5, 8));
	return {x, y};
}
static void floats() {
	const auto [x, y] = operands<float>();
	compare_rows<float>("floats", x, y, FLOAT_EXPRESSIONS, float_row<FLOAT_EXPRESSIONS>, float_tolerance);
}
static void doubles() {
	const auto [x, y] = operands<double>();
	compare_rows<double>("doubles", x, y, DOUBLE_EXPRESSIONS, double_row<DOUBLE_EXPRESSIONS>, double_tolerance);
}

// ---- streams: copies from pinned memory on one, a kernel on another after an event

static void streams() {
	constexpr unsigned NON_BLOCKING = 1;
	const int columns = 16, k = 16, cells = 32 * k;
	void *copies, *work, *copied, *host;
	MUST(cuStreamCreate(&copies, NON_BLOCKING));
	MUST(cuStreamCreate(&work, NON_BLOCKING));
	MUST(cuEventCreate(&copied, 0));
	MUST(cuMemHostAlloc(&host, cells * 2, 0));
	for (int i = 0; i < cells; i++) ((uint16_t*)host)[i] = to_bf16(1);
	Device<uint16_t> a(32 * k), b(k * columns);
	Device<float> c(32 * columns);
	MUST(cuMemcpyHtoDAsync_v2(a.p, host, 32 * k * 2, copies));
	MUST(cuMemcpyHtoDAsync_v2(b.p, host, k * columns * 2, copies));
	MUST(cuEventRecord(copied, copies));
	MUST(cuMemsetD32Async(c.p, 0, 32 * columns, work));
	MUST(cuStreamWaitEvent(work, copied, 0));
	MUST(start(load_kernel("sound.ptx", "matmul"), {1, 1, 64}, work, {&c.p, &a.p, &b.p, &columns, &k}));
	MUST(cuStreamSynchronize(work));
	for (float x : c.values())
		if (x != (float)k) stop("streams: " + std::to_string(x));
}

// Copies and kernels take turns at the same memory, and an event is recorded again and again.
static void turns() {
	constexpr unsigned NON_BLOCKING = 1;
	const int n = 32;
	void *copies, *work, *turn, *host, *kernel = load_kernel("sound.ptx", "collatz");
	MUST(cuStreamCreate(&copies, NON_BLOCKING));
	MUST(cuStreamCreate(&work, NON_BLOCKING));
	MUST(cuEventCreate(&turn, 0));
	MUST(cuMemHostAlloc(&host, n * 4, 0));
	Device<unsigned> x(n);
	Device<int> steps(n);
	for (unsigned round = 1; round <= 3; round++) {
		for (int i = 0; i < n; i++) ((unsigned*)host)[i] = round;
		MUST(cuMemcpyHtoDAsync_v2(x.p, host, n * 4, copies));
		MUST(cuEventRecord(turn, copies));
		MUST(cuStreamWaitEvent(work, turn, 0));
		MUST(cuEventSynchronize(turn));  // host is read
		MUST(start(kernel, {1, 1, n}, work, {&steps.p, &x.p, &n}));
		MUST(cuEventRecord(turn, work));
		MUST(cuStreamWaitEvent(copies, turn, 0));
	}
	MUST(cuStreamSynchronize(copies));  // which has waited for the last kernel
	MUST(cuMemFreeHost(host));
	for (int count : steps.values())
		if (count != 7) stop("turns: " + std::to_string(count));  // 3 10 5 16 8 4 2 1
}

int main(int argc, char** argv) {
	static const std::map<std::string, std::function<void()>> sound = {
		{"matmul", matmul},   {"sum_and_count", sum_and_count}, {"collatz", collatz}, {"vectors", vectors},
		{"integers", integers}, {"floats", floats},             {"doubles", doubles}, {"streams", streams},
		{"turns", turns},
	};
	if (argc != 3) stop("usage: check FOLDER CASE");
	folder = argv[1];
	const std::string name = argv[2];
	void* context;
	MUST(cuInit(0));
	MUST(cuDevicePrimaryCtxRetain(&context, 0));
	MUST(cuCtxSetCurrent(context));
	if (auto it = sound.find(name); it != sound.end()) it->second();
	else if (!make_mistake(name)) stop("no case " + name);
}
