// Vectors: the same on each component.

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
