// Memory: WGSL's layout.

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
