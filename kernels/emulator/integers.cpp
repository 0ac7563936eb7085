//go:build ignore

// Arithmetic of integers. Overflow wraps: this file is compiled with -fwrapv.
#include <type_traits>

#include "decode.h"
#include "numeric.h"

// ---- products, in twice the width where all bits are wanted

template <class T> struct Twice;
template <> struct Twice<int16_t> { typedef int type; };
template <> struct Twice<u16> { typedef u32 type; };
template <> struct Twice<int> { typedef i64 type; };
template <> struct Twice<u32> { typedef u64 type; };
template <> struct Twice<i64> { typedef __int128 type; };
template <> struct Twice<u64> { typedef unsigned __int128 type; };

template <class T> static T high_half(T a, T b) {
	typedef typename Twice<T>::type Wide;
	return (T)((Wide)a * b >> 8 * sizeof(T));
}

// d, of twice the width of a and b, = a * b (+ c)
template <class T, bool ADD> static void wide_product(Warp& w, const Insn& i) {
	typedef typename Twice<T>::type Wide;
	Wide* d = plane<Wide>(w, i.d);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
	const Wide* c = plane<Wide>(w, i.c);
	each_lane(w, [&](int l) { d[l] = (Wide)a[l] * b[l] + (ADD ? c[l] : 0); });
}

template <bool ADD> static Run wide_function(const std::string& type) {
	if (type == "s32") return wide_product<int, ADD>;
	if (type == "u32") return wide_product<u32, ADD>;
	if (type == "s16") return wide_product<int16_t, ADD>;
	if (type == "u16") return wide_product<u16, ADD>;
	return nullptr;
}

// ---- quotients. The manual leaves division by zero open; cards give all ones, and the
// dividend as the remainder.

template <class T> static T quotient(T a, T b) {
	if (b == 0) return (T)-1;
	if (std::is_signed_v<T> && b == (T)-1) return (T)(0 - a);
	return (T)(a / b);
}

template <class T> static T remainder_of(T a, T b) {
	if (b == 0) return a;
	if (std::is_signed_v<T> && b == (T)-1) return 0;
	return (T)(a % b);
}

enum Half { LOW, HIGH, WIDE };

static Run integer_function(const std::string& name, const std::string& type, int half) {
	if (name == "mul" && half == WIDE) return wide_function<false>(type);
	if (name == "mad" && half == WIDE) return wide_function<true>(type);
	if (name == "mul" && half == HIGH) return by_integer<Binary, ([](auto a, auto b) { return high_half(a, b); })>(type);
	if (name == "mad" && half == HIGH) return by_integer<Ternary, ([](auto a, auto b, auto c) { return high_half(a, b) + c; })>(type);
	if (name == "mul" && half == LOW) return by_integer<Binary, ([](auto a, auto b) { return a * b; })>(type);
	if (name == "mad" && half == LOW) return by_integer<Ternary, ([](auto a, auto b, auto c) { return a * b + c; })>(type);
	if (name == "add") return by_integer<Binary, ([](auto a, auto b) { return a + b; })>(type);
	if (name == "sub") return by_integer<Binary, ([](auto a, auto b) { return a - b; })>(type);
	if (name == "div") return by_integer<Binary, ([](auto a, auto b) { return quotient(a, b); })>(type);
	if (name == "rem") return by_integer<Binary, ([](auto a, auto b) { return remainder_of(a, b); })>(type);
	if (name == "min") return by_integer<Binary, ([](auto a, auto b) { return a < b ? a : b; })>(type);
	if (name == "max") return by_integer<Binary, ([](auto a, auto b) { return a > b ? a : b; })>(type);
	if (name == "abs") return by_integer<Unary, ([](auto a) { return a < 0 ? -a : a; })>(type);
	if (name == "neg") return by_integer<Unary, ([](auto a) { return -a; })>(type);
	return nullptr;
}

void decode_integer(Decoder& d, const std::string& type) {
	Insn& i = d.insn;
	const u8 width = width_of_type(type);
	const int half = d.take_one({"lo", "hi", "wide"});
	d.destination(0);
	i.a = d.source(1, width).plane;
	if (d.count() > 2) i.b = d.source(2, width).plane;
	if (d.count() > 3) i.c = d.source(3, half == WIDE ? 2 * width : width).plane;
	i.run = integer_function(d.name(), type, half);
}

// add, sub, mul, ... of any type
void decode_arithmetic(Decoder& d) {
	const std::string type = d.take_type();
	if (is_float(type)) decode_float(d, type);
	else decode_integer(d, type);
}
