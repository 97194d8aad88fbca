// What handlers translated from WGSL are made of: `src/compile/cuda` writes C++ in these words.
//
// Six files that are one text, in this order: this one, with what a driver passes and the loop budget; `memory.cuh`, WGSL's
// layout; `machine.cuh`, what differs between a GPU and a host; `scalar.cuh`, operators, functions and conversions of
// scalars; `vector.cuh`, the same of vectors, and matrices; `packing.cuh`.
//
// NVRTC compiles this without any header of CUDA's; with RT_HOST defined, so does a C++17 compiler, for tests. Every
// function gives what `src/compile/lower.rs` says under "What engines owe", whatever the compiler's options: products
// are never contracted, and quotients and roots always rounded to nearest. Names that begin with `rt_`, `Rt` or `RT_`
// are the library's.

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
#ifdef RT_HEARTBEAT
    // So many words behind the stop word: another value than the last one says that the handler runs. What is left of the
    // budget would be the same for each message. Both loads are under way at the same time.
    volatile unsigned* beat = (volatile unsigned*)budget.stop + RT_HEARTBEAT;
    const unsigned last = rt_look(beat);
#endif
    if (rt_look(budget.stop) >= RT_STOP_NOW) {
        budget.interrupted = true;
        return true;
    }
#ifdef RT_HEARTBEAT
    rt_tell(beat, last + 1u);
#endif
    rt_begin(budget, budget.later);
    return false;
}
