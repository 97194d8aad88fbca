// What handlers translated from WGSL are made of: `src/compile/cuda` writes C++ in these words.
//
// NVRTC compiles this without any header of CUDA's; with RT_HOST defined, so does a C++17 compiler, for tests. Every
// function gives what `src/compile/lower.rs` says under "What engines owe", whatever the compiler's options: products
// are never contracted, and quotients and roots always rounded to nearest. Names that begin with `rt_`, `Rt` or `RT_`
// are the library's.

#ifndef RT_HANDLER_CUH
#define RT_HANDLER_CUH

#ifdef RT_HOST
#include <math.h>
#include <string.h>
#ifndef __device__
#define __device__
#endif
#define RT_SMALL inline
#define RT_INLINE static inline
#define RT_OUTLINE static
#define RT_UNROLL
#define RT_BEGIN_HANDLER
#define RT_END_HANDLER
#else
#define RT_SMALL __device__ __forceinline__
#define RT_INLINE __device__ __forceinline__
#define RT_OUTLINE static __device__ __noinline__
#define RT_UNROLL _Pragma("unroll")
// In what the user wrote there may be values that nobody uses and statements that nothing reaches.
#define RT_BEGIN_HANDLER _Pragma("nv_diagnostic push") _Pragma("nv_diag_suppress 111, 128, 177, 550, 940")
#define RT_END_HANDLER _Pragma("nv_diagnostic pop")
#endif

static_assert(sizeof(unsigned) == 4 && sizeof(int) == 4 && sizeof(float) == 4 && sizeof(bool) == 1, "types");

// ---- What the driver passes.

// A bound table.
struct RtTable {
    void* data;
    unsigned long long bytes;
};

// How `rt_run` ends: 1 and 2 are fault codes of the lowered handler.
#define RT_DONE 0u
#define RT_LOOP_BUDGET 1u
#define RT_EMIT_OVERFLOW 2u
#define RT_INTERRUPTED 3u

// The stop word has this value, or a greater one, when the message in hand is to be left.
#define RT_STOP_NOW 2u

// Loop iterations between two looks at the stop word, which may be across the bus.
#define RT_STOP_INTERVAL 4096u

// ---- The loop budget.

// What is left of it is in two parts, so that one comparison asks both whether it is used up and whether it is time to
// look at the stop word.
struct RtBudget {
    unsigned now;
    unsigned later;
    bool interrupted;
    volatile const unsigned* stop;
};

RT_SMALL void rt_begin(RtBudget& budget, unsigned iterations) {
    budget.now = iterations < RT_STOP_INTERVAL ? iterations : RT_STOP_INTERVAL;
    budget.later = iterations - budget.now;
}

// Words that the host has, too, while the handler runs. A volatile access of a GPU is a relaxed one at system scope; C++
// has no such promise.
#ifdef RT_HOST
RT_SMALL unsigned rt_look(volatile const unsigned* from) { return __atomic_load_n(from, __ATOMIC_RELAXED); }
RT_SMALL void rt_tell(volatile unsigned* to, unsigned value) { __atomic_store_n(to, value, __ATOMIC_RELAXED); }
#else
RT_SMALL unsigned rt_look(volatile const unsigned* from) { return *from; }
RT_SMALL void rt_tell(volatile unsigned* to, unsigned value) { *to = value; }
#endif

// Gets the next part, if there is any. True if the run has to be left.
RT_SMALL bool rt_refill(RtBudget& budget) {
    if (budget.later == 0u) return false;
    if (rt_look(budget.stop) >= RT_STOP_NOW) {
        budget.interrupted = true;
        return true;
    }
#ifdef RT_HEARTBEAT
    // So many words behind the stop word: another value each time says that the handler runs.
    rt_tell((volatile unsigned*)budget.stop + RT_HEARTBEAT, budget.later);
#endif
    rt_begin(budget, budget.later);
    return false;
}

// ---- Memory: WGSL's layout.

template <class T, unsigned N> struct alignas(N == 3u ? sizeof(T) : N * sizeof(T)) RtVector {
    T v[N];
};

// An element of an array, S bytes from the next.
template <class T, unsigned S, bool Padded = (S > sizeof(T))> struct RtSlot {
    T value;
    unsigned char padding[S - sizeof(T)];
};
template <class T, unsigned S> struct RtSlot<T, S, false> {
    T value;
};

template <class T, unsigned N, unsigned S> struct RtArray {
    RtSlot<T, S> slots[N];
};

// A matrix: C columns of R rows.
template <unsigned C, unsigned R> struct RtMatrix {
    RtSlot<RtVector<float, R>, R == 2u ? 8u : 16u> slots[C];
};

// Stores to a table what has padding, which stays as it is; structs have functions of their own.
template <class T, unsigned N> RT_SMALL void rt_store(RtVector<T, N>& to, const RtVector<T, N>& from) { to = from; }
RT_SMALL void rt_store(unsigned& to, unsigned from) { to = from; }
RT_SMALL void rt_store(int& to, int from) { to = from; }
RT_SMALL void rt_store(float& to, float from) { to = from; }
template <class T, unsigned N, unsigned S>
RT_SMALL void rt_store(RtArray<T, N, S>& to, const RtArray<T, N, S>& from) {
    for (unsigned i = 0u; i < N; i++) rt_store(to.slots[i].value, from.slots[i].value);
}
template <unsigned C, unsigned R> RT_SMALL void rt_store(RtMatrix<C, R>& to, const RtMatrix<C, R>& from) {
    RT_UNROLL for (unsigned c = 0u; c < C; c++) rt_store(to.slots[c].value, from.slots[c].value);
}

// A component whose number is known at run time only. A choice and no index: that would put the vector into memory.
template <class T, unsigned N> RT_SMALL T rt_at(const RtVector<T, N>& vector, unsigned index) {
    T value = vector.v[0];
    RT_UNROLL for (unsigned i = 1u; i < N; i++) value = index == i ? vector.v[i] : value;
    return value;
}
template <class T, unsigned N> RT_SMALL void rt_put(RtVector<T, N>& vector, unsigned index, T value) {
    RT_UNROLL for (unsigned i = 0u; i < N; i++) vector.v[i] = index == i ? value : vector.v[i];
}

template <unsigned N, class T> RT_SMALL RtVector<T, N> rt_splat(T value) {
    RtVector<T, N> vector;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) vector.v[i] = value;
    return vector;
}

// Elements of a table; past 16 GiB the number of a word would not fit into a word.
RT_SMALL unsigned rt_length(const RtTable& table, unsigned stride) {
    unsigned long long elements = table.bytes / stride;
    unsigned countable = 0xffffffffu / (stride / 4u);
    return elements < countable ? (unsigned)elements : countable;
}

// ---- What differs between a GPU and a host.

#ifdef RT_HOST

RT_SMALL float rt_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
RT_SMALL unsigned rt_word(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
RT_SMALL float rt_multiply(float a, float b) { return a * b; }
RT_SMALL float rt_divide(float a, float b) { return a / b; }
RT_SMALL float rt_sqrt(float a) { return sqrtf(a); }
RT_SMALL unsigned rt_count_one_bits(unsigned a) { return (unsigned)__builtin_popcount(a); }
RT_SMALL unsigned rt_count_leading_zeros(unsigned a) { return a == 0u ? 32u : (unsigned)__builtin_clz(a); }
RT_SMALL unsigned rt_count_trailing_zeros(unsigned a) { return a == 0u ? 32u : (unsigned)__builtin_ctz(a); }
RT_SMALL unsigned rt_reverse_bits(unsigned a) {
    unsigned reversed = 0u;
    for (unsigned i = 0u; i < 32u; i++) reversed |= ((a >> i) & 1u) << (31u - i);
    return reversed;
}

template <class T> RT_SMALL T rt_atomic_load(const T* at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
template <class T> RT_SMALL void rt_atomic_store(T* at, T value) { __atomic_store_n(at, value, __ATOMIC_RELAXED); }
template <class T> RT_SMALL T rt_atomic_add(T* at, T value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
template <class T> RT_SMALL T rt_atomic_sub(T* at, T value) { return __atomic_fetch_sub(at, value, __ATOMIC_RELAXED); }
template <class T> RT_SMALL T rt_atomic_and(T* at, T value) { return __atomic_fetch_and(at, value, __ATOMIC_RELAXED); }
template <class T> RT_SMALL T rt_atomic_or(T* at, T value) { return __atomic_fetch_or(at, value, __ATOMIC_RELAXED); }
template <class T> RT_SMALL T rt_atomic_xor(T* at, T value) { return __atomic_fetch_xor(at, value, __ATOMIC_RELAXED); }
template <class T> RT_SMALL T rt_atomic_exchange(T* at, T value) {
    return __atomic_exchange_n(at, value, __ATOMIC_RELAXED);
}
template <class T> RT_SMALL T rt_atomic_compare_exchange(T* at, T expected, T value) {
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
template <class T> RT_SMALL T rt_atomic_min(T* at, T value) {
    T old = rt_atomic_load(at);
    for (T seen; value < old; old = seen) {
        seen = rt_atomic_compare_exchange(at, old, value);
        if (seen == old) break;
    }
    return old;
}
template <class T> RT_SMALL T rt_atomic_max(T* at, T value) {
    T old = rt_atomic_load(at);
    for (T seen; old < value; old = seen) {
        seen = rt_atomic_compare_exchange(at, old, value);
        if (seen == old) break;
    }
    return old;
}

#else

RT_SMALL float rt_float(unsigned bits) { return __uint_as_float(bits); }
RT_SMALL unsigned rt_word(float x) { return __float_as_uint(x); }
// A product that is rounded by itself never becomes a part of an fma.
RT_SMALL float rt_multiply(float a, float b) { return __fmul_rn(a, b); }
RT_SMALL float rt_divide(float a, float b) { return __fdiv_rn(a, b); }
RT_SMALL float rt_sqrt(float a) { return __fsqrt_rn(a); }
RT_SMALL unsigned rt_count_one_bits(unsigned a) { return (unsigned)__popc(a); }
RT_SMALL unsigned rt_count_leading_zeros(unsigned a) { return (unsigned)__clz((int)a); }
RT_SMALL unsigned rt_count_trailing_zeros(unsigned a) { return (unsigned)__clz((int)__brev(a)); }
RT_SMALL unsigned rt_reverse_bits(unsigned a) { return __brev(a); }

template <class T> RT_SMALL T rt_atomic_load(const T* at) { return *(const volatile T*)at; }
template <class T> RT_SMALL void rt_atomic_store(T* at, T value) { *(volatile T*)at = value; }
template <class T> RT_SMALL T rt_atomic_add(T* at, T value) { return atomicAdd(at, value); }
template <class T> RT_SMALL T rt_atomic_sub(T* at, T value) { return atomicAdd(at, (T)(0u - (unsigned)value)); }
template <class T> RT_SMALL T rt_atomic_and(T* at, T value) { return atomicAnd(at, value); }
template <class T> RT_SMALL T rt_atomic_or(T* at, T value) { return atomicOr(at, value); }
template <class T> RT_SMALL T rt_atomic_xor(T* at, T value) { return atomicXor(at, value); }
template <class T> RT_SMALL T rt_atomic_min(T* at, T value) { return atomicMin(at, value); }
template <class T> RT_SMALL T rt_atomic_max(T* at, T value) { return atomicMax(at, value); }
template <class T> RT_SMALL T rt_atomic_exchange(T* at, T value) { return atomicExch(at, value); }
template <class T> RT_SMALL T rt_atomic_compare_exchange(T* at, T expected, T value) {
    return atomicCAS(at, expected, value);
}

#endif

// ---- Operators on scalars. Integers are computed as unsigned ones, whose overflow is defined.

RT_SMALL unsigned rt_add(unsigned a, unsigned b) { return a + b; }
RT_SMALL int rt_add(int a, int b) { return (int)((unsigned)a + (unsigned)b); }
RT_SMALL float rt_add(float a, float b) { return a + b; }
RT_SMALL unsigned rt_subtract(unsigned a, unsigned b) { return a - b; }
RT_SMALL int rt_subtract(int a, int b) { return (int)((unsigned)a - (unsigned)b); }
RT_SMALL float rt_subtract(float a, float b) { return a - b; }
RT_SMALL unsigned rt_multiply(unsigned a, unsigned b) { return a * b; }
RT_SMALL int rt_multiply(int a, int b) { return (int)((unsigned)a * (unsigned)b); }
RT_SMALL unsigned rt_divide(unsigned a, unsigned b) { return b == 0u ? a : a / b; }
RT_SMALL int rt_divide(int a, int b) {
    // MIN / -1 = MIN, as a negation that wraps.
    if (b == -1) return (int)(0u - (unsigned)a);
    return b == 0 ? a : a / b;
}
RT_SMALL unsigned rt_modulo(unsigned a, unsigned b) { return b == 0u ? 0u : a % b; }
RT_SMALL int rt_modulo(int a, int b) { return b == 0 || b == -1 ? 0 : a % b; }
RT_SMALL float rt_modulo(float a, float b) { return a - rt_multiply(b, truncf(rt_divide(a, b))); }
RT_SMALL int rt_negate(int a) { return (int)(0u - (unsigned)a); }
RT_SMALL unsigned rt_negate(unsigned a) { return 0u - a; }
RT_SMALL float rt_negate(float a) { return rt_float(rt_word(a) ^ 0x80000000u); }
RT_SMALL unsigned rt_not(unsigned a) { return ~a; }
RT_SMALL int rt_not(int a) { return ~a; }
RT_SMALL bool rt_not(bool a) { return !a; }
RT_SMALL unsigned rt_and(unsigned a, unsigned b) { return a & b; }
RT_SMALL int rt_and(int a, int b) { return a & b; }
RT_SMALL bool rt_and(bool a, bool b) { return a && b; }
RT_SMALL unsigned rt_or(unsigned a, unsigned b) { return a | b; }
RT_SMALL int rt_or(int a, int b) { return a | b; }
RT_SMALL bool rt_or(bool a, bool b) { return a || b; }
RT_SMALL unsigned rt_xor(unsigned a, unsigned b) { return a ^ b; }
RT_SMALL int rt_xor(int a, int b) { return a ^ b; }
RT_SMALL bool rt_xor(bool a, bool b) { return a != b; }
RT_SMALL unsigned rt_shift_left(unsigned a, unsigned b) { return a << (b & 31u); }
RT_SMALL int rt_shift_left(int a, unsigned b) { return (int)((unsigned)a << (b & 31u)); }
RT_SMALL unsigned rt_shift_right(unsigned a, unsigned b) { return a >> (b & 31u); }
RT_SMALL int rt_shift_right(int a, unsigned b) { return a >> (b & 31u); }

#define RT_COMPARE(T)                                                  \
    RT_SMALL bool rt_equal(T a, T b) { return a == b; }                \
    RT_SMALL bool rt_not_equal(T a, T b) { return a != b; }            \
    RT_SMALL bool rt_less(T a, T b) { return a < b; }                  \
    RT_SMALL bool rt_less_equal(T a, T b) { return a <= b; }           \
    RT_SMALL bool rt_greater(T a, T b) { return a > b; }               \
    RT_SMALL bool rt_greater_equal(T a, T b) { return a >= b; }        \
    RT_SMALL T rt_select(bool condition, T accept, T reject) { return condition ? accept : reject; }
RT_COMPARE(unsigned)
RT_COMPARE(int)
RT_COMPARE(float)
RT_COMPARE(bool)

// ---- Built-in functions of scalars.

RT_SMALL unsigned rt_min(unsigned a, unsigned b) { return b < a ? b : a; }
RT_SMALL int rt_min(int a, int b) { return b < a ? b : a; }
RT_SMALL float rt_min(float a, float b) { return b < a || a != a ? b : a; }
RT_SMALL unsigned rt_max(unsigned a, unsigned b) { return a < b ? b : a; }
RT_SMALL int rt_max(int a, int b) { return a < b ? b : a; }
RT_SMALL float rt_max(float a, float b) { return a < b || a != a ? b : a; }
RT_SMALL unsigned rt_clamp(unsigned x, unsigned low, unsigned high) { return rt_min(rt_max(x, low), high); }
RT_SMALL int rt_clamp(int x, int low, int high) { return rt_min(rt_max(x, low), high); }
RT_SMALL float rt_clamp(float x, float low, float high) { return rt_min(rt_max(x, low), high); }
RT_SMALL float rt_saturate(float x) { return rt_clamp(x, 0.0f, 1.0f); }
RT_SMALL unsigned rt_abs(unsigned a) { return a; }
RT_SMALL int rt_abs(int a) { return a < 0 ? rt_negate(a) : a; }
RT_SMALL float rt_abs(float a) { return rt_float(rt_word(a) & 0x7fffffffu); }
RT_SMALL int rt_sign(int a) { return (a > 0) - (a < 0); }
RT_SMALL float rt_sign(float a) { return a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : 0.0f; }
RT_SMALL bool rt_is_infinite(float x) { return (rt_word(x) & 0x7fffffffu) == 0x7f800000u; }
RT_SMALL bool rt_is_finite(float x) { return (rt_word(x) & 0x7f800000u) != 0x7f800000u; }

RT_SMALL float rt_ceil(float x) { return ceilf(x); }
RT_SMALL float rt_floor(float x) { return floorf(x); }
RT_SMALL float rt_trunc(float x) { return truncf(x); }
// To nearest, ties to the even neighbour.
RT_SMALL float rt_round(float x) { return rintf(x); }
RT_SMALL float rt_fract(float x) { return x - floorf(x); }
RT_SMALL float rt_step(float edge, float x) { return edge <= x ? 1.0f : 0.0f; }
RT_SMALL float rt_fma(float a, float b, float c) { return rt_multiply(a, b) + c; }
RT_SMALL float rt_mix(float a, float b, float t) { return rt_multiply(a, 1.0f - t) + rt_multiply(b, t); }
RT_SMALL float rt_smooth_step(float low, float high, float x) {
    float t = rt_clamp(rt_divide(x - low, high - low), 0.0f, 1.0f);
    return rt_multiply(rt_multiply(t, t), 3.0f - rt_multiply(2.0f, t));
}
RT_SMALL float rt_inverse_sqrt(float x) { return rt_divide(1.0f, rt_sqrt(x)); }
RT_SMALL float rt_radians(float x) { return rt_multiply(x, rt_float(0x3c8efa35u)); }
RT_SMALL float rt_degrees(float x) { return rt_multiply(x, rt_float(0x42652ee0u)); }

RT_SMALL float rt_cos(float x) { return cosf(x); }
RT_SMALL float rt_cosh(float x) { return coshf(x); }
RT_SMALL float rt_sin(float x) { return sinf(x); }
RT_SMALL float rt_sinh(float x) { return sinhf(x); }
RT_SMALL float rt_tan(float x) { return tanf(x); }
RT_SMALL float rt_tanh(float x) { return tanhf(x); }
RT_SMALL float rt_acos(float x) { return acosf(x); }
RT_SMALL float rt_asin(float x) { return asinf(x); }
RT_SMALL float rt_atan(float x) { return atanf(x); }
RT_SMALL float rt_atan2(float y, float x) { return atan2f(y, x); }
RT_SMALL float rt_asinh(float x) { return asinhf(x); }
RT_SMALL float rt_acosh(float x) { return acoshf(x); }
RT_SMALL float rt_atanh(float x) { return atanhf(x); }
RT_SMALL float rt_exp(float x) { return expf(x); }
RT_SMALL float rt_exp2(float x) { return exp2f(x); }
RT_SMALL float rt_log(float x) { return logf(x); }
RT_SMALL float rt_log2(float x) { return log2f(x); }
RT_SMALL float rt_pow(float x, float y) { return powf(x, y); }

RT_SMALL unsigned rt_first_trailing_bit(unsigned a) { return a == 0u ? 0xffffffffu : rt_count_trailing_zeros(a); }
RT_SMALL int rt_first_trailing_bit(int a) { return (int)rt_first_trailing_bit((unsigned)a); }
// None gives 31 - 32, which is -1.
RT_SMALL unsigned rt_first_leading_bit(unsigned a) { return 31u - rt_count_leading_zeros(a); }
// Of a negative number, the highest bit that differs from its sign.
RT_SMALL int rt_first_leading_bit(int a) { return (int)rt_first_leading_bit((unsigned)(a < 0 ? ~a : a)); }
RT_SMALL int rt_count_one_bits(int a) { return (int)rt_count_one_bits((unsigned)a); }
RT_SMALL int rt_count_leading_zeros(int a) { return (int)rt_count_leading_zeros((unsigned)a); }
RT_SMALL int rt_count_trailing_zeros(int a) { return (int)rt_count_trailing_zeros((unsigned)a); }
RT_SMALL int rt_reverse_bits(int a) { return (int)rt_reverse_bits((unsigned)a); }

// A range of bits begins within the word and ends within it.
RT_SMALL unsigned rt_extract_bits(unsigned e, unsigned offset, unsigned count) {
    offset = rt_min(offset, 32u);
    count = rt_min(count, 32u - offset);
    return count == 0u ? 0u : (e << (32u - offset - count)) >> (32u - count);
}
RT_SMALL int rt_extract_bits(int e, unsigned offset, unsigned count) {
    offset = rt_min(offset, 32u);
    count = rt_min(count, 32u - offset);
    return count == 0u ? 0 : (int)((unsigned)e << (32u - offset - count)) >> (32u - count);
}
RT_SMALL unsigned rt_insert_bits(unsigned e, unsigned bits, unsigned offset, unsigned count) {
    offset = rt_min(offset, 32u);
    count = rt_min(count, 32u - offset);
    if (count == 0u) return e;
    unsigned mask = (0xffffffffu >> (32u - count)) << offset;
    return (e & ~mask) | ((bits << offset) & mask);
}
RT_SMALL int rt_insert_bits(int e, int bits, unsigned offset, unsigned count) {
    return (int)rt_insert_bits((unsigned)e, (unsigned)bits, offset, count);
}

// By factors that are powers of two; in such steps that only the last one rounds.
RT_SMALL float rt_ldexp(float x, int exponent) {
    const float huge = rt_float(0x7f000000u), tiny = rt_float(0x0c800000u);
    if (exponent > 127) {
        x = rt_multiply(x, huge);
        exponent -= 127;
        if (exponent > 127) {
            x = rt_multiply(x, huge);
            exponent = rt_min(exponent - 127, 127);
        }
    } else if (exponent < -126) {
        x = rt_multiply(x, tiny);
        exponent += 102;
        if (exponent < -126) {
            x = rt_multiply(x, tiny);
            exponent = rt_max(exponent + 102, -126);
        }
    }
    return rt_multiply(x, rt_float((unsigned)(exponent + 127) << 23));
}

// The parts of `modf` and `frexp`. An infinity or NaN is its own fraction of the latter.
RT_SMALL float rt_modf_fract(float x) {
    return rt_is_infinite(x) ? rt_float(rt_word(x) & 0x80000000u) : x - truncf(x);
}
RT_SMALL int rt_frexp_exponent(float x) {
    if (!rt_is_finite(x) || x == 0.0f) return 0;
    unsigned exponent = (rt_word(x) >> 23) & 0xffu;
    if (exponent == 0u) return (int)((rt_word(rt_multiply(x, 16777216.0f)) >> 23) & 0xffu) - 150;
    return (int)exponent - 126;
}
RT_SMALL float rt_frexp_fract(float x) {
    if (!rt_is_finite(x) || x == 0.0f) return x;
    if (((rt_word(x) >> 23) & 0xffu) == 0u) x = rt_multiply(x, 16777216.0f);
    return rt_float((rt_word(x) & 0x807fffffu) | 0x3f000000u);
}

// ---- Half floats, as in `float.rs`.

RT_SMALL unsigned rt_float_to_half(float x) {
    unsigned bits = rt_word(x);
    unsigned sign = (bits >> 16) & 0x8000u;
    unsigned magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7e00u;
    // Halves are spaced 2^-24 below 2^-14; adding 0.5, whose neighbours in f32 are 2^-24 apart, rounds to that.
    if (magnitude < 0x38800000u) return sign | (rt_word(rt_float(magnitude) + 0.5f) - 0x3f000000u);
    unsigned rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    unsigned half = rounded >> 13;
    half = half < 112u << 10 ? 0u : half - (112u << 10);
    return sign | rt_min(half, 0x7c00u);
}
RT_SMALL float rt_half_to_float(unsigned half) {
    unsigned sign = (half & 0x8000u) << 16;
    unsigned magnitude = half & 0x7fffu;
    unsigned value = (magnitude << 13) + (112u << 23);
    if (magnitude >> 10 == 0u) value = rt_word(rt_multiply((float)magnitude, rt_float(0x33800000u)));
    if (magnitude >> 10 == 31u) value = 0x7f800000u | ((magnitude & 0x3ffu) << 13);
    return rt_float(sign | value);
}
RT_SMALL float rt_quantize(float x) { return rt_half_to_float(rt_float_to_half(x)); }

// ---- Conversions. Lowering has brought floats into the range of the integer.

template <class T> struct RtTo;
template <> struct RtTo<unsigned> {
    static RT_SMALL unsigned from(unsigned a) { return a; }
    static RT_SMALL unsigned from(int a) { return (unsigned)a; }
    static RT_SMALL unsigned from(float a) { return (unsigned)a; }
    static RT_SMALL unsigned from(bool a) { return a ? 1u : 0u; }
    static RT_SMALL unsigned bits(unsigned a) { return a; }
    static RT_SMALL unsigned bits(int a) { return (unsigned)a; }
    static RT_SMALL unsigned bits(float a) { return rt_word(a); }
};
template <> struct RtTo<int> {
    static RT_SMALL int from(unsigned a) { return (int)a; }
    static RT_SMALL int from(int a) { return a; }
    static RT_SMALL int from(float a) { return (int)a; }
    static RT_SMALL int from(bool a) { return a ? 1 : 0; }
    static RT_SMALL int bits(unsigned a) { return (int)a; }
    static RT_SMALL int bits(int a) { return a; }
    static RT_SMALL int bits(float a) { return (int)rt_word(a); }
};
template <> struct RtTo<float> {
    static RT_SMALL float from(unsigned a) { return (float)a; }
    static RT_SMALL float from(int a) { return (float)a; }
    static RT_SMALL float from(float a) { return a; }
    static RT_SMALL float from(bool a) { return a ? 1.0f : 0.0f; }
    static RT_SMALL float bits(unsigned a) { return rt_float(a); }
    static RT_SMALL float bits(int a) { return rt_float((unsigned)a); }
    static RT_SMALL float bits(float a) { return a; }
};
template <> struct RtTo<bool> {
    static RT_SMALL bool from(unsigned a) { return a != 0u; }
    static RT_SMALL bool from(int a) { return a != 0; }
    static RT_SMALL bool from(float a) { return a != 0.0f; }
    static RT_SMALL bool from(bool a) { return a; }
    static RT_SMALL bool bits(bool a) { return a; }
};
template <class T, class U> RT_SMALL T rt_convert(U a) { return RtTo<T>::from(a); }
template <class T, class U, unsigned N> RT_SMALL RtVector<T, N> rt_convert(const RtVector<U, N>& a) {
    RtVector<T, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = RtTo<T>::from(a.v[i]);
    return r;
}
template <class T, class U> RT_SMALL T rt_bits(U a) { return RtTo<T>::bits(a); }
template <class T, class U, unsigned N> RT_SMALL RtVector<T, N> rt_bits(const RtVector<U, N>& a) {
    RtVector<T, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = RtTo<T>::bits(a.v[i]);
    return r;
}

// ---- The same on each component of vectors.

#define RT_EACH_1(f)                                                                      \
    template <class T, unsigned N> RT_SMALL auto f(const RtVector<T, N>& a) {             \
        RtVector<decltype(f(T())), N> r;                                                  \
        RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = f(a.v[i]);                   \
        return r;                                                                         \
    }
#define RT_EACH_2(f)                                                                                  \
    template <class T, class U, unsigned N>                                                           \
    RT_SMALL auto f(const RtVector<T, N>& a, const RtVector<U, N>& b) {                               \
        RtVector<decltype(f(T(), U())), N> r;                                                         \
        RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = f(a.v[i], b.v[i]);                       \
        return r;                                                                                     \
    }
#define RT_EACH_3(f)                                                                                  \
    template <class T, class U, class V, unsigned N>                                                  \
    RT_SMALL auto f(const RtVector<T, N>& a, const RtVector<U, N>& b, const RtVector<V, N>& c) {      \
        RtVector<decltype(f(T(), U(), V())), N> r;                                                    \
        RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = f(a.v[i], b.v[i], c.v[i]);               \
        return r;                                                                                     \
    }
RT_EACH_1(rt_negate) RT_EACH_1(rt_not) RT_EACH_1(rt_abs) RT_EACH_1(rt_sign) RT_EACH_1(rt_saturate)
RT_EACH_1(rt_ceil) RT_EACH_1(rt_floor) RT_EACH_1(rt_trunc) RT_EACH_1(rt_round) RT_EACH_1(rt_fract)
RT_EACH_1(rt_sqrt) RT_EACH_1(rt_inverse_sqrt) RT_EACH_1(rt_radians) RT_EACH_1(rt_degrees)
RT_EACH_1(rt_cos) RT_EACH_1(rt_cosh) RT_EACH_1(rt_sin) RT_EACH_1(rt_sinh) RT_EACH_1(rt_tan) RT_EACH_1(rt_tanh)
RT_EACH_1(rt_acos) RT_EACH_1(rt_asin) RT_EACH_1(rt_atan) RT_EACH_1(rt_asinh) RT_EACH_1(rt_acosh) RT_EACH_1(rt_atanh)
RT_EACH_1(rt_exp) RT_EACH_1(rt_exp2) RT_EACH_1(rt_log) RT_EACH_1(rt_log2) RT_EACH_1(rt_quantize)
RT_EACH_1(rt_modf_fract) RT_EACH_1(rt_frexp_fract) RT_EACH_1(rt_frexp_exponent)
RT_EACH_1(rt_count_one_bits) RT_EACH_1(rt_count_leading_zeros) RT_EACH_1(rt_count_trailing_zeros)
RT_EACH_1(rt_reverse_bits) RT_EACH_1(rt_first_trailing_bit) RT_EACH_1(rt_first_leading_bit)
RT_EACH_2(rt_add) RT_EACH_2(rt_subtract) RT_EACH_2(rt_multiply) RT_EACH_2(rt_divide) RT_EACH_2(rt_modulo)
RT_EACH_2(rt_and) RT_EACH_2(rt_or) RT_EACH_2(rt_xor) RT_EACH_2(rt_shift_left) RT_EACH_2(rt_shift_right)
RT_EACH_2(rt_equal) RT_EACH_2(rt_not_equal) RT_EACH_2(rt_less) RT_EACH_2(rt_less_equal)
RT_EACH_2(rt_greater) RT_EACH_2(rt_greater_equal)
RT_EACH_2(rt_min) RT_EACH_2(rt_max) RT_EACH_2(rt_step) RT_EACH_2(rt_atan2) RT_EACH_2(rt_pow) RT_EACH_2(rt_ldexp)
RT_EACH_3(rt_select) RT_EACH_3(rt_clamp) RT_EACH_3(rt_fma) RT_EACH_3(rt_mix) RT_EACH_3(rt_smooth_step)

template <class T, unsigned N>
RT_SMALL RtVector<T, N> rt_extract_bits(const RtVector<T, N>& e, unsigned offset, unsigned count) {
    RtVector<T, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = rt_extract_bits(e.v[i], offset, count);
    return r;
}
template <class T, unsigned N>
RT_SMALL RtVector<T, N> rt_insert_bits(
    const RtVector<T, N>& e, const RtVector<T, N>& bits, unsigned offset, unsigned count) {
    RtVector<T, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = rt_insert_bits(e.v[i], bits.v[i], offset, count);
    return r;
}

RT_SMALL bool rt_all(bool a) { return a; }
RT_SMALL bool rt_any(bool a) { return a; }
template <unsigned N> RT_SMALL bool rt_all(const RtVector<bool, N>& a) {
    bool all = true;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) all = all && a.v[i];
    return all;
}
template <unsigned N> RT_SMALL bool rt_any(const RtVector<bool, N>& a) {
    bool any = false;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) any = any || a.v[i];
    return any;
}

// ---- Functions that mix components. Sums go from the first component to the last.

template <class T, unsigned N> RT_SMALL T rt_dot(const RtVector<T, N>& a, const RtVector<T, N>& b) {
    T sum = rt_multiply(a.v[0], b.v[0]);
    RT_UNROLL for (unsigned i = 1u; i < N; i++) sum = rt_add(sum, rt_multiply(a.v[i], b.v[i]));
    return sum;
}
RT_SMALL float rt_length(float a) { return rt_abs(a); }
template <unsigned N> RT_SMALL float rt_length(const RtVector<float, N>& a) { return rt_sqrt(rt_dot(a, a)); }
template <class T> RT_SMALL float rt_distance(const T& a, const T& b) { return rt_length(rt_subtract(a, b)); }
template <unsigned N> RT_SMALL RtVector<float, N> rt_normalize(const RtVector<float, N>& a) {
    return rt_divide(a, rt_splat<N>(rt_length(a)));
}
RT_SMALL RtVector<float, 3> rt_cross(const RtVector<float, 3>& a, const RtVector<float, 3>& b) {
    return RtVector<float, 3>{{
        rt_multiply(a.v[1], b.v[2]) - rt_multiply(a.v[2], b.v[1]),
        rt_multiply(a.v[2], b.v[0]) - rt_multiply(a.v[0], b.v[2]),
        rt_multiply(a.v[0], b.v[1]) - rt_multiply(a.v[1], b.v[0]),
    }};
}
template <unsigned N>
RT_SMALL RtVector<float, N> rt_face_forward(
    const RtVector<float, N>& a, const RtVector<float, N>& incident, const RtVector<float, N>& reference) {
    bool keep = rt_dot(incident, reference) < 0.0f;
    RtVector<float, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = keep ? a.v[i] : rt_negate(a.v[i]);
    return r;
}
template <unsigned N>
RT_SMALL RtVector<float, N> rt_reflect(const RtVector<float, N>& a, const RtVector<float, N>& normal) {
    float twice = rt_multiply(2.0f, rt_dot(normal, a));
    RtVector<float, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) r.v[i] = a.v[i] - rt_multiply(twice, normal.v[i]);
    return r;
}
template <unsigned N>
RT_SMALL RtVector<float, N> rt_refract(
    const RtVector<float, N>& a, const RtVector<float, N>& normal, float ratio) {
    float dot = rt_dot(normal, a);
    float k = 1.0f - rt_multiply(rt_multiply(ratio, ratio), 1.0f - rt_multiply(dot, dot));
    float factor = rt_multiply(ratio, dot) + rt_sqrt(k);
    RtVector<float, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++)
        r.v[i] = k < 0.0f ? 0.0f : rt_multiply(ratio, a.v[i]) - rt_multiply(factor, normal.v[i]);
    return r;
}

// ---- Matrices.

template <unsigned C, unsigned R> RT_SMALL RtMatrix<C, R> rt_negate(const RtMatrix<C, R>& a) {
    RtMatrix<C, R> r = {};
    RT_UNROLL for (unsigned c = 0u; c < C; c++) r.slots[c].value = rt_negate(a.slots[c].value);
    return r;
}
template <unsigned C, unsigned R> RT_SMALL RtMatrix<C, R> rt_add(const RtMatrix<C, R>& a, const RtMatrix<C, R>& b) {
    RtMatrix<C, R> r = {};
    RT_UNROLL for (unsigned c = 0u; c < C; c++) r.slots[c].value = rt_add(a.slots[c].value, b.slots[c].value);
    return r;
}
template <unsigned C, unsigned R>
RT_SMALL RtMatrix<C, R> rt_subtract(const RtMatrix<C, R>& a, const RtMatrix<C, R>& b) {
    RtMatrix<C, R> r = {};
    RT_UNROLL for (unsigned c = 0u; c < C; c++) r.slots[c].value = rt_subtract(a.slots[c].value, b.slots[c].value);
    return r;
}
template <unsigned C, unsigned R> RT_SMALL RtMatrix<C, R> rt_multiply(const RtMatrix<C, R>& a, float b) {
    RtMatrix<C, R> r = {};
    RT_UNROLL for (unsigned c = 0u; c < C; c++) r.slots[c].value = rt_multiply(a.slots[c].value, rt_splat<R>(b));
    return r;
}
template <unsigned C, unsigned R> RT_SMALL RtMatrix<C, R> rt_multiply(float a, const RtMatrix<C, R>& b) {
    return rt_multiply(b, a);
}
template <unsigned C, unsigned R>
RT_SMALL RtVector<float, R> rt_multiply(const RtMatrix<C, R>& a, const RtVector<float, C>& b) {
    RtVector<float, R> r;
    RT_UNROLL for (unsigned i = 0u; i < R; i++) {
        float sum = rt_multiply(a.slots[0].value.v[i], b.v[0]);
        RT_UNROLL for (unsigned c = 1u; c < C; c++) sum = sum + rt_multiply(a.slots[c].value.v[i], b.v[c]);
        r.v[i] = sum;
    }
    return r;
}
template <unsigned C, unsigned R>
RT_SMALL RtVector<float, C> rt_multiply(const RtVector<float, R>& a, const RtMatrix<C, R>& b) {
    RtVector<float, C> r;
    RT_UNROLL for (unsigned c = 0u; c < C; c++) r.v[c] = rt_dot(a, b.slots[c].value);
    return r;
}
template <unsigned K, unsigned R, unsigned C>
RT_SMALL RtMatrix<C, R> rt_multiply(const RtMatrix<K, R>& a, const RtMatrix<C, K>& b) {
    RtMatrix<C, R> r = {};
    RT_UNROLL for (unsigned c = 0u; c < C; c++) r.slots[c].value = rt_multiply(a, b.slots[c].value);
    return r;
}
template <unsigned C, unsigned R> RT_SMALL RtMatrix<R, C> rt_transpose(const RtMatrix<C, R>& a) {
    RtMatrix<R, C> r = {};
    RT_UNROLL for (unsigned c = 0u; c < C; c++)
        RT_UNROLL for (unsigned i = 0u; i < R; i++) r.slots[i].value.v[c] = a.slots[c].value.v[i];
    return r;
}
// Along the first row, here and below.
RT_SMALL float rt_determinant(const RtMatrix<2, 2>& a) {
    return rt_multiply(a.slots[0].value.v[0], a.slots[1].value.v[1])
        - rt_multiply(a.slots[1].value.v[0], a.slots[0].value.v[1]);
}
template <unsigned N> RT_SMALL float rt_determinant(const RtMatrix<N, N>& a) {
    float sum = 0.0f;
    RT_UNROLL for (unsigned column = 0u; column < N; column++) {
        RtMatrix<N - 1u, N - 1u> minor = {};
        RT_UNROLL for (unsigned c = 0u; c < N - 1u; c++)
            RT_UNROLL for (unsigned i = 0u; i < N - 1u; i++)
                minor.slots[c].value.v[i] = a.slots[c < column ? c : c + 1u].value.v[i + 1u];
        float term = rt_multiply(a.slots[column].value.v[0], rt_determinant(minor));
        sum = column == 0u ? term : column % 2u == 1u ? sum - term : sum + term;
    }
    return sum;
}

// ---- Packing: small numbers inside one word.

template <unsigned N> RT_SMALL unsigned rt_pack_normalised(const RtVector<float, N>& a, float low, float scale) {
    unsigned word = 0u;
    RT_UNROLL for (unsigned i = 0u; i < N; i++) {
        float rounded = floorf(0.5f + rt_multiply(scale, rt_clamp(a.v[i], low, 1.0f)));
        word |= ((unsigned)(int)rounded & (0xffffffffu >> (32u - 32u / N))) << (32u / N * i);
    }
    return word;
}
RT_SMALL unsigned rt_pack_4x8snorm(const RtVector<float, 4>& a) { return rt_pack_normalised(a, -1.0f, 127.0f); }
RT_SMALL unsigned rt_pack_4x8unorm(const RtVector<float, 4>& a) { return rt_pack_normalised(a, 0.0f, 255.0f); }
RT_SMALL unsigned rt_pack_2x16snorm(const RtVector<float, 2>& a) { return rt_pack_normalised(a, -1.0f, 32767.0f); }
RT_SMALL unsigned rt_pack_2x16unorm(const RtVector<float, 2>& a) { return rt_pack_normalised(a, 0.0f, 65535.0f); }
RT_SMALL unsigned rt_pack_2x16float(const RtVector<float, 2>& a) {
    return rt_float_to_half(a.v[0]) | (rt_float_to_half(a.v[1]) << 16);
}
template <class T> RT_SMALL unsigned rt_pack_4x8(const RtVector<T, 4>& a) {
    unsigned word = 0u;
    RT_UNROLL for (unsigned i = 0u; i < 4u; i++) word |= ((unsigned)a.v[i] & 0xffu) << (8u * i);
    return word;
}
RT_SMALL unsigned rt_pack_4x8clamp(const RtVector<int, 4>& a) {
    return rt_pack_4x8(rt_clamp(a, rt_splat<4>(-128), rt_splat<4>(127)));
}
RT_SMALL unsigned rt_pack_4x8clamp(const RtVector<unsigned, 4>& a) {
    return rt_pack_4x8(rt_min(a, rt_splat<4>(255u)));
}
template <unsigned N> RT_SMALL RtVector<int, N> rt_unpack_signed(unsigned word) {
    RtVector<int, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++)
        r.v[i] = (int)(word << (32u - 32u / N * (i + 1u))) >> (32u - 32u / N);
    return r;
}
template <unsigned N> RT_SMALL RtVector<unsigned, N> rt_unpack_unsigned(unsigned word) {
    RtVector<unsigned, N> r;
    RT_UNROLL for (unsigned i = 0u; i < N; i++)
        r.v[i] = (word << (32u - 32u / N * (i + 1u))) >> (32u - 32u / N);
    return r;
}
template <unsigned N> RT_SMALL RtVector<float, N> rt_unpack_snorm(unsigned word, float scale) {
    RtVector<float, N> r = rt_divide(rt_convert<float>(rt_unpack_signed<N>(word)), rt_splat<N>(scale));
    return rt_max(r, rt_splat<N>(-1.0f));
}
template <unsigned N> RT_SMALL RtVector<float, N> rt_unpack_unorm(unsigned word, float scale) {
    return rt_divide(rt_convert<float>(rt_unpack_unsigned<N>(word)), rt_splat<N>(scale));
}
RT_SMALL RtVector<float, 4> rt_unpack_4x8snorm(unsigned word) { return rt_unpack_snorm<4>(word, 127.0f); }
RT_SMALL RtVector<float, 4> rt_unpack_4x8unorm(unsigned word) { return rt_unpack_unorm<4>(word, 255.0f); }
RT_SMALL RtVector<float, 2> rt_unpack_2x16snorm(unsigned word) { return rt_unpack_snorm<2>(word, 32767.0f); }
RT_SMALL RtVector<float, 2> rt_unpack_2x16unorm(unsigned word) { return rt_unpack_unorm<2>(word, 65535.0f); }
RT_SMALL RtVector<float, 2> rt_unpack_2x16float(unsigned word) {
    return RtVector<float, 2>{{rt_half_to_float(word & 0xffffu), rt_half_to_float(word >> 16)}};
}
RT_SMALL int rt_dot_signed(unsigned a, unsigned b) { return rt_dot(rt_unpack_signed<4>(a), rt_unpack_signed<4>(b)); }
RT_SMALL unsigned rt_dot_unsigned(unsigned a, unsigned b) {
    return rt_dot(rt_unpack_unsigned<4>(a), rt_unpack_unsigned<4>(b));
}

#endif
