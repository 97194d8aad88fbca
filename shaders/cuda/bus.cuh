// What kernels that stay are made of, whether they run handlers or not: words, and how they get at memory that the host, or
// another kernel, sees at the same time.

typedef unsigned int rt_u32;
typedef unsigned long long rt_u64;

#define RT_LANES 32u
#define RT_ALL_LANES 0xffffffffu

#ifndef RT_HOST
// Looks at an empty ring before it sleeps between two of them, and before it waits for its bell, if it has one.
#define RT_SPINS 1024u
#define RT_LISTENS 16u
// … which it waits for no longer than this before it looks again: nothing goes wrong if nobody rings.
#define RT_DOZE_NS 20000ull
#define RT_FN static __device__ __forceinline__
// One granule, at system scope; relaxed: it carries all that it says.
RT_FN rt_u64 rt_load_granule(const rt_u64* from) {
  rt_u64 value;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
  return value;
}
RT_FN void rt_store_granule(rt_u64* to, rt_u64 value) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
RT_FN rt_u32 rt_load_word(const rt_u32* from) {
  rt_u32 value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
RT_FN void rt_store_word(rt_u32* to, rt_u32 value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
// Release pairs with the host's acquire of the epoch: what this launch wrote is there for whoever has seen it.
RT_FN void rt_publish_word(rt_u32* to, rt_u32 value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
// Orders what a handler does with its tables: before a message is taken and before its record is written. And a route before
// what it leads to.
RT_FN void rt_fence() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
RT_FN void rt_sleep(rt_u32 ns) { asm volatile("nanosleep.u32 %0;" ::"r"(ns)); }
RT_FN rt_u64 rt_now() {
  rt_u64 ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  return ns;
}
// Shared memory whose size the launch says: for as many messages as its block takes at once.
RT_FN rt_u32* rt_shared() {
  extern __shared__ uint4 rt_of_the_launch[];
  return (rt_u32*)rt_of_the_launch;
}
#endif
