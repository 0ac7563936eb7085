// Instructions that compute a register from registers, lane by lane: F applied by the
// templates below, for the types of PTX.
#pragma once
#include <cmath>

#include "warp.h"

inline bool is_float(const std::string& type) { return type == "f32" || type == "f64"; }

// A float32 too small to be normal becomes zero of its sign: .ftz.
inline float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.f, x) : x; }

// F with operands and result flushed.
template <auto F> struct Flushed {
	auto operator()(auto... x) const { return flush(F(flush(x)...)); }
};

template <class T, auto F> struct Unary {
	static void run(Warp& w, const Insn& i) {
		T* d = plane<T>(w, i.d);
		const T* a = plane<T>(w, i.a);
		each_lane(w, [&](int l) { d[l] = (T)F(a[l]); });
	}
};

template <class T, auto F> struct Binary {
	static void run(Warp& w, const Insn& i) {
		T* d = plane<T>(w, i.d);
		const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
		each_lane(w, [&](int l) { d[l] = (T)F(a[l], b[l]); });
	}
};

template <class T, auto F> struct Ternary {
	static void run(Warp& w, const Insn& i) {
		T* d = plane<T>(w, i.d);
		const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b), *c = plane<T>(w, i.c);
		each_lane(w, [&](int l) { d[l] = (T)F(a[l], b[l], c[l]); });
	}
};

// OP<T, F>::run for the type that PTX names; null if OP is not for it.
template <template <class, auto> class OP, auto F> Run by_integer(const std::string& type) {
	if (type == "s32") return OP<int, F>::run;
	if (type == "u32" || type == "b32" || type == "pred") return OP<u32, F>::run;
	if (type == "s64") return OP<i64, F>::run;
	if (type == "u64" || type == "b64") return OP<u64, F>::run;
	if (type == "s16") return OP<int16_t, F>::run;
	if (type == "u16" || type == "b16") return OP<u16, F>::run;
	return nullptr;
}

template <template <class, auto> class OP, auto F> Run by_float(const std::string& type) {
	if (type == "f32") return OP<float, F>::run;
	if (type == "f64") return OP<double, F>::run;
	return nullptr;
}
