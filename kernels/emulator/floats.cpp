//go:build ignore

// Arithmetic of float32 and float64, and the special function unit. IEEE operations are
// exact to the bit; the approximate ones are the true value, rounded, and off by as much
// as EMULATOR_JITTER says: as on a card, by the same whenever the operand is the same.
#include <cfenv>

#include "decode.h"
#include "numeric.h"

// ---- rounding other than to nearest: everything is one fma

template <int MODE> __attribute__((noinline)) static float directed_fma(float x, float y, float z) {
	volatile float a = x, b = y, c = z;  // keeps the compiler from moving it over fesetround
	const int before = fegetround();
	fesetround(MODE);
	volatile float r = __builtin_fmaf(a, b, c);
	fesetround(before);
	return r;
}

template <int MODE> static Run directed(const std::string& name) {
	if (name == "fma" || name == "mad") return Ternary<float, directed_fma<MODE>>::run;
	if (name == "add") return Binary<float, ([](float a, float b) { return directed_fma<MODE>(a, 1, b); })>::run;
	if (name == "sub") return Binary<float, ([](float a, float b) { return directed_fma<MODE>(b, -1, a); })>::run;
	if (name == "mul") return Binary<float, ([](float a, float b) { return directed_fma<MODE>(a, b, -0.f); })>::run;
	return nullptr;
}

// ---- the ordinary ones

static float shake(float x) {
	if (settings.jitter == 0) return x;
	u32 bits;
	memcpy(&bits, &x, 4);
	const double unit = (double)(hash64(bits) >> 11) * 0x1p-52 - 1;  // in [-1, 1)
	return x * (float)(1 + settings.jitter * unit);
}

// The manual has 2^0 = 1. That holds for all that rounds to 1 here, for a card has the
// operand's fraction as a fixed-point number; that it does is not in the manual.
static float shake_power(float x) { return x == 1 ? x : shake(x); }

template <class T> static T smaller(T a, T b) { return a < b || b != b || (a == b && std::signbit(a)) ? a : b; }
template <class T> static T larger(T a, T b) { return a > b || b != b || (a == b && std::signbit(b)) ? a : b; }

template <template <class, auto> class OP, auto F> static Run with_ftz(bool ftz, const std::string& type) {
	if (!ftz) return by_float<OP, F>(type);
	return type == "f32" ? OP<float, Flushed<F>{}>::run : nullptr;
}

static Run float_function(const std::string& name, const std::string& type, bool ftz, bool nan, bool approximate) {
	if (name == "add") return with_ftz<Binary, ([](auto a, auto b) { return a + b; })>(ftz, type);
	if (name == "sub") return with_ftz<Binary, ([](auto a, auto b) { return a - b; })>(ftz, type);
	if (name == "mul") return with_ftz<Binary, ([](auto a, auto b) { return a * b; })>(ftz, type);
	if (name == "fma" || name == "mad") return with_ftz<Ternary, ([](auto a, auto b, auto c) { return std::fma(a, b, c); })>(ftz, type);
	if (name == "div" && approximate && type == "f32") return with_ftz<Binary, ([](float a, float b) { return shake(a / b); })>(ftz, type);
	if (name == "div") return with_ftz<Binary, ([](auto a, auto b) { return a / b; })>(ftz, type);
	if (name == "min" && nan) return with_ftz<Binary, ([](auto a, auto b) { return a != a ? a : b != b ? b : smaller(a, b); })>(ftz, type);
	if (name == "max" && nan) return with_ftz<Binary, ([](auto a, auto b) { return a != a ? a : b != b ? b : larger(a, b); })>(ftz, type);
	if (name == "min") return with_ftz<Binary, ([](auto a, auto b) { return smaller(a, b); })>(ftz, type);
	if (name == "max") return with_ftz<Binary, ([](auto a, auto b) { return larger(a, b); })>(ftz, type);
	if (name == "abs") return with_ftz<Unary, ([](auto a) { return std::fabs(a); })>(ftz, type);
	if (name == "neg") return with_ftz<Unary, ([](auto a) { return -a; })>(ftz, type);
	if (name == "copysign") return with_ftz<Binary, ([](auto a, auto b) { return std::copysign(b, a); })>(ftz, type);
	return nullptr;
}

void decode_float(Decoder& d, const std::string& type) {
	Insn& i = d.insn;
	const u8 width = width_of_type(type);
	i.kind = FLOAT;
	const bool ftz = d.take("ftz"), nan = d.take("NaN");
	const int rounding = d.take_one({"rn", "rm", "rz", "rp"});
	const bool approximate = d.take("approx") || d.take("full");
	d.destination(0);
	i.a = d.source(1, width).plane;
	if (d.count() > 2) i.b = d.source(2, width).plane;
	if (d.count() > 3) i.c = d.source(3, width).plane;
	if (rounding <= 0) i.run = float_function(d.name(), type, ftz, nan, approximate);
	else if (type != "f32" || ftz) d.refuse("this rounding is not supported");
	else i.run = rounding == 1 ? directed<FE_DOWNWARD>(d.name()) : rounding == 2 ? directed<FE_TOWARDZERO>(d.name()) : directed<FE_UPWARD>(d.name());
}

// ---- the special function unit. ex2, lg2 and rsqrt flush subnormal operands with and
// without .ftz: the manual allows it, and cards do.

static Run approximation(const std::string& name) {
	if (name == "ex2") return Unary<float, ([](float a) { return shake_power(flush(std::exp2(flush(a)))); })>::run;
	if (name == "lg2") return Unary<float, ([](float a) { return shake(std::log2(flush(a))); })>::run;
	if (name == "rsqrt") return Unary<float, ([](float a) { return shake((float)(1 / std::sqrt((double)flush(a)))); })>::run;
	if (name == "rcp") return Unary<float, ([](float a) { return shake(1 / a); })>::run;
	if (name == "sqrt") return Unary<float, ([](float a) { return shake(std::sqrt(a)); })>::run;
	if (name == "sin") return Unary<float, ([](float a) { return shake(std::sin(a)); })>::run;
	if (name == "cos") return Unary<float, ([](float a) { return shake(std::cos(a)); })>::run;
	if (name == "tanh") return Unary<float, ([](float a) { return shake(std::tanh(a)); })>::run;
	return nullptr;
}

static Run rounded(const std::string& name, const std::string& type) {
	if (name == "rcp") return by_float<Unary, ([](auto a) { return 1 / a; })>(type);
	if (name == "sqrt") return by_float<Unary, ([](auto a) { return std::sqrt(a); })>(type);
	return nullptr;
}

// rcp.approx.ftz.f64 keeps the upper half of the bits; CUDA refines it.
static double coarse_reciprocal(double a) {
	const double r = 1 / a;
	u64 bits;
	memcpy(&bits, &r, 8);
	bits &= ~0ull << 32;
	double cut;
	memcpy(&cut, &bits, 8);
	return cut;
}

void decode_special(Decoder& d) {
	Insn& i = d.insn;
	i.kind = SFU;
	d.take("ftz");
	const bool approximate = d.take("approx");
	if (!approximate && !d.take("rn")) d.refuse("this rounding is not supported");
	const std::string type = d.take_type();
	d.destination(0);
	i.a = d.source(1, width_of_type(type)).plane;
	if (!approximate) i.run = rounded(d.name(), type);
	else if (type == "f32") i.run = approximation(d.name());
	else if (type == "f64" && d.name() == "rcp") i.run = Unary<double, coarse_reciprocal>::run;
	else if (type == "f64" && d.name() == "rsqrt") i.run = Unary<double, ([](double a) { return 1 / std::sqrt(a); })>::run;
}
