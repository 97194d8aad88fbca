// Around a compute entry point that was translated from WGSL: `src/compile/cuda/compute.rs` writes the kernel behind this.
// A workgroup is a block, an invocation is a thread.

// What a dispatch passes.
struct RtDispatch {
    RtTable tables[8];
    // The greatest fault code of all invocations.
    unsigned* fault;
    // See RtBudget.
    const unsigned* stop;
};
static_assert(sizeof(RtDispatch) == 144, "the host writes it");

// What invocations wrote before it is there for all of the workgroup behind it.
RT_SMALL void rt_barrier() { __syncthreads(); }
RT_SMALL void rt_memory_barrier() { __threadfence_block(); }

// Workgroup memory begins with zeros.
RT_SMALL void rt_clear(unsigned* words, unsigned count, unsigned index, unsigned invocations) {
    for (unsigned i = index; i < count; i += invocations) words[i] = 0u;
    rt_barrier();
}
