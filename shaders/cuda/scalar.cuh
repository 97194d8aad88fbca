// Operators on scalars. Integers are computed as unsigned ones, whose overflow is defined.

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
