// Packing: small numbers inside one word.

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
