// What one would write by hand, for one job: 64 bytes there, each word one larger back.
//
// `ping_pong` is resident and moves granules of 8 bytes, a word and a stamp, as the library does; `once` is launched for
// each job. Compiled by NVRTC without headers; on the emulation of tests/cuda, which brings the part that is PTX here.

typedef unsigned int u32;
typedef unsigned long long u64;

#define ALL_LANES 0xffffffffu

#ifndef RT_HOST
static __device__ __forceinline__ u64 rt_load_granule(const u64* from) {
  u64 value;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
  return value;
}
static __device__ __forceinline__ void rt_store_granule(u64* to, u64 value) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
static __device__ __forceinline__ u32 rt_load_word(const u32* from) {
  u32 value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
#define rt_sleep(ns)
#endif

struct PingPong {
  const u64* input;    // mapped: the host writes
  u64* output;         // mapped: this writes
  const u32* stop;     // mapped: not 0, and this ends
  u32 words, first;    // of a job, at most as many as lanes; the stamp of the first
};

extern "C" __global__ void __launch_bounds__(32) ping_pong(PingPong p) {
  const u32 lane = threadIdx.x;
  u32 stamp = p.first;
  for (;;) {
    u64 granule = (u64)stamp << 32;
    // Both loads are under way at the same time.
    const u32 stop = lane == 0 ? rt_load_word(p.stop) : 0;
    if (lane < p.words) granule = rt_load_granule(p.input + lane);
    if (__any_sync(ALL_LANES, (u32)(granule >> 32) != stamp)) {
      if (__any_sync(ALL_LANES, stop != 0)) return;
      rt_sleep(0);
      continue;
    }
    if (lane < p.words) rt_store_granule(p.output + lane, ((u64)stamp << 32) | (u32)((u32)granule + 1u));
    stamp++;
  }
}

struct Once {
  const u32* input;    // mapped
  u32* output;         // mapped
  u32 words, unused;
};

extern "C" __global__ void __launch_bounds__(32) once(Once p) {
  const u32 lane = threadIdx.x;
  if (lane < p.words) p.output[lane] = p.input[lane] + 1u;
}

struct Stay {
  u64* begun;          // mapped
  const u32* stop;     // mapped: not 0, and this ends
};

// Is there, and has nothing to do.
extern "C" __global__ void __launch_bounds__(32) stay(Stay p) {
  if (threadIdx.x == 0) rt_store_granule(p.begun, 1);
  while (__any_sync(ALL_LANES, rt_load_word(p.stop) == 0)) rt_sleep(1000);
}
