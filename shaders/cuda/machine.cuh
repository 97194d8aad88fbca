// What differs between a GPU and a host.

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
