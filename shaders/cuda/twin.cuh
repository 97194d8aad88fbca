// What a handler that its user wrote in CUDA C++ gets besides its message and its state: `src/compile/cuda/twin.rs` adds
// its outputs and tables. Comes behind `handler.cuh`.

#ifndef RT_TWIN_CUH
#define RT_TWIN_CUH

// The elements of a table.
template <class T> struct RtElements {
    T* data;
    unsigned length;
    // An index that is too large means the last element, as in WGSL.
    RT_SMALL T& operator[](unsigned index) const { return data[index < length ? index : length - 1u]; }
};

RT_SMALL void rt_put_count(unsigned char* at, unsigned count) { memcpy(at, &count, sizeof(count)); }

struct RtCalls {
    RtBudget rt_budget;
    unsigned char* rt_privates;
    unsigned rt_fault;

    RT_SMALL void rt_start(unsigned char* privates, unsigned iterations, volatile const unsigned* stop) {
        rt_budget.stop = stop;
        rt_budget.interrupted = false;
        rt_begin(rt_budget, iterations);
        rt_privates = privates;
        rt_fault = RT_DONE;
    }

    // Begins one more iteration of a loop. False if there may be none: then the handler has to return, whatever it gives.
    RT_SMALL bool loop() {
        if (rt_budget.now == 0u && (rt_refill(rt_budget) || rt_budget.now == 0u)) {
            if (rt_fault == RT_DONE) rt_fault = RT_LOOP_BUDGET;
            return false;
        }
        rt_budget.now--;
        return true;
    }

    template <unsigned MOST, unsigned STRIDE, class T>
    RT_SMALL void rt_emit(unsigned char* count_at, unsigned char* items, const T& value) {
        unsigned count;
        memcpy(&count, count_at, sizeof(count));
        if (count >= MOST) {
            if (rt_fault == RT_DONE) rt_fault = RT_EMIT_OVERFLOW;
            return;
        }
        memcpy(items + count * STRIDE, &value, sizeof(value));
        rt_put_count(count_at, count + 1u);
    }

    RT_SMALL unsigned rt_end() const { return rt_budget.interrupted ? RT_INTERRUPTED : rt_fault; }
};

#endif
