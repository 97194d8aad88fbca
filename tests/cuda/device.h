// Put before a kernel's text by the emulated NVRTC: what CUDA C++ has and C++ has not.
#pragma once
#define RT_HOST 1
#define __device__
#define __host__
#define __global__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
// One thread of the process runs one block.
#define __shared__ static thread_local

#include <string.h>

// CUDA's vectors, with its alignments.
#define EMULATED_VECTORS(name, type) \
  struct alignas(8) name##2 { type x, y; }; \
  struct name##3 { type x, y, z; }; \
  struct alignas(16) name##4 { type x, y, z, w; };
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(uint, unsigned)
struct EmulatedIndex {
  unsigned x, y, z;
};

// What the emulated driver gives to a module when it loads it.
struct Emulation {
  EmulatedIndex* (*thread_index)();
  // Of the block, how many threads it has, and how many blocks there are.
  EmulatedIndex* (*block_index)();
  EmulatedIndex* (*block_size)();
  EmulatedIndex* (*grid_size)();
  void* (*shared)();
  unsigned long long (*exchange)(unsigned long long value, unsigned from);
  unsigned (*ballot)(bool vote);
  unsigned (*match)(unsigned value);
  void (*meet_warp)();
  void (*meet_block)();
  bool (*any_of_block)(bool vote);
  void (*sleep)(unsigned ns);
  void (*trap)();
  unsigned long long (*now)();
  unsigned long long (*load)(const unsigned long long* from);
  void (*store)(unsigned long long* to, unsigned long long value);
  unsigned (*look)(const unsigned* from);
  void (*publish)(unsigned* to, unsigned value);
  void (*flush)();
  // How long a kernel waits for its bell.
  unsigned long long (*doze)();
};
static const Emulation* emulation;

#define threadIdx (*emulation->thread_index())
#define blockIdx (*emulation->block_index())
#define blockDim (*emulation->block_size())
#define gridDim (*emulation->grid_size())
static inline void __syncthreads() { emulation->meet_block(); }
static inline int __syncthreads_or(int vote) { return emulation->any_of_block(vote != 0); }
static inline void __threadfence_block() {}
static inline void __syncwarp(unsigned = ~0u) { emulation->meet_warp(); }
static inline unsigned __shfl_sync(unsigned, unsigned value, int from) {
  return (unsigned)emulation->exchange(value, from);
}
static inline unsigned long long __shfl_sync(unsigned, unsigned long long value, int from) {
  return emulation->exchange(value, from);
}
static inline unsigned __shfl_xor_sync(unsigned, unsigned value, int distance) {
  return (unsigned)emulation->exchange(value, (threadIdx.x ^ (unsigned)distance) % 32u);
}
static inline bool __any_sync(unsigned, bool vote) { return emulation->ballot(vote) != 0; }
static inline unsigned __ballot_sync(unsigned, bool vote) { return emulation->ballot(vote); }
static inline unsigned __match_any_sync(unsigned, unsigned value) { return emulation->match(value); }
static inline void __trap() { emulation->trap(); }
#ifndef __popc
static inline int __popc(unsigned value) { return __builtin_popcount(value); }
#endif

// The part of the ring driver that is in PTX on a GPU.
#define RT_FN static inline
RT_FN unsigned long long rt_load_granule(const unsigned long long* from) { return emulation->load(from); }
RT_FN void rt_store_granule(unsigned long long* to, unsigned long long value) { emulation->store(to, value); }
RT_FN unsigned rt_load_word(const unsigned* from) { return emulation->look(from); }
RT_FN void rt_store_word(unsigned* to, unsigned value) { __atomic_store_n(to, value, __ATOMIC_RELAXED); }
RT_FN void rt_publish_word(unsigned* to, unsigned value) { emulation->publish(to, value); }
RT_FN void rt_fence() { emulation->flush(); }
RT_FN void rt_sleep(unsigned ns) { emulation->sleep(ns); }
RT_FN unsigned long long rt_now() { return emulation->now(); }
// Shared memory whose size the launch says.
RT_FN unsigned* rt_shared() { return (unsigned*)emulation->shared(); }
#define RT_SPINS 8u
#define RT_LISTENS 2u
#define RT_DOZE_NS emulation->doze()
