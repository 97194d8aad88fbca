// The ingress: one warp that looks for many kernels whether the host has written messages for them.
//
// A look into a ring in host memory is a trip over the bus. Some kernels that look on and on are no burden; a hundred are one.
// So those that come when some are there listen to a bell, a word in device memory that says where their next message will be: the low word of its
// position, as the host has written it into a list, which the ingress copies from on and on. A kernel whose bell says that
// there is nothing for it stays off the bus.
//
// It is a hint and no more. A bell that says something else than where the kernel is has it look for itself, and it looks now
// and then in any case: an ingress that comes late, has left or was never there costs time and no message.
//
// Compiled by NVRTC behind a head that defines RT_BELLS, how many there are, and behind `bus.cuh`.

#define RT_BELLS_OF_A_LANE (RT_BELLS / RT_LANES)
static_assert(RT_BELLS % RT_LANES == 0, "each lane has as many");

struct RtIngress {
  const rt_u32* list;  // mapped: what the host has written
  rt_u32* bells;       // on the device: what kernels look at
  const rt_u32* stop;  // mapped: not 0: leave
  rt_u32* left;        // mapped: the epoch of the launch that has left
  rt_u64 idle_ns;      // with nothing to copy for so long, it leaves
  rt_u32 epoch;
  rt_u32 zero;         // fills it up
};
static_assert(sizeof(RtIngress) == 48, "the host writes it");

extern "C" __global__ void __launch_bounds__(RT_LANES) rt_ingress(RtIngress launch) {
  const rt_u32 lane = threadIdx.x;
  rt_u32 known[RT_BELLS_OF_A_LANE];
  rt_u64 idle_since = rt_now();
  for (bool is_first = true;; is_first = false) {
    // All loads are under way at the same time.
    const rt_u32 stop = rt_load_word(launch.stop);
    rt_u32 list[RT_BELLS_OF_A_LANE];
#pragma unroll
    for (rt_u32 i = 0; i < RT_BELLS_OF_A_LANE; i++) list[i] = rt_load_word(launch.list + i * RT_LANES + lane);
    bool is_new = false;
#pragma unroll
    for (rt_u32 i = 0; i < RT_BELLS_OF_A_LANE; i++) {
      if (!is_first && list[i] == known[i]) continue;
      known[i] = list[i];
      rt_store_word(launch.bells + i * RT_LANES + lane, list[i]);
      is_new = true;
    }
    const rt_u64 now = rt_now();
    is_new = __any_sync(RT_ALL_LANES, is_new);
    if (is_new) idle_since = now;
    if (__any_sync(RT_ALL_LANES, stop != 0 || now - idle_since > launch.idle_ns)) break;
    rt_sleep(100u);
  }
  // From now on each kernel looks for itself.
#pragma unroll
  for (rt_u32 i = 0; i < RT_BELLS_OF_A_LANE; i++) rt_store_word(launch.bells + i * RT_LANES + lane, ~known[i]);
  rt_fence();
  __syncwarp();
  if (lane == 0) rt_publish_word(launch.left, launch.epoch);
}
