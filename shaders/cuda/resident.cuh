// The resident driver: one kernel that stays on the device and runs messages through a handler until it is told to stop.
// Its rings are those of `ring.cuh`.
//
// A kernel is one block, whose first warp leads. It looks into the ring, and as long as it finds no more than it has lanes
// for, it goes alone: the others wait at a barrier, where they cost nothing, and a message on its own meets none of them.
// When it has found as much as it could take, the next round is wide: each warp copies the messages of its lanes, all agree
// on the first one that is missing, and each thread runs the message of its number. Which messages those are, and whose
// turn it is in an instance, follows from positions alone, however many warps there are.

template <rt_u32 WORDS> RT_FN void rt_copy(rt_u32* to, const rt_u32* from) {
  for (rt_u32 i = 0; i < WORDS; i++) to[i] = from[i];
}

// The least of all lanes' values.
RT_FN rt_u32 rt_least(rt_u32 value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_min_sync(RT_ALL_LANES, value);
#else
  for (rt_u32 distance = RT_LANES / 2; distance > 0; distance /= 2) {
    rt_u32 other = __shfl_xor_sync(RT_ALL_LANES, value, distance);
    value = other < value ? other : value;
  }
  return value;
#endif
}

// Words of a message in shared memory: as many as the larger of both sides' ideas of it, and aligned for any type.
#define RT_SHARED_MESSAGE (RT_MESSAGE_SPACE / 4u)
static_assert(RT_MESSAGE_SPACE % 16 == 0 && sizeof(RtMessage) <= RT_MESSAGE_SPACE && RT_MESSAGE_WORDS * 4 <= RT_MESSAGE_SPACE,
              "the host says how much shared memory there is");

// What the warps of a block tell each other, in shared memory.
struct RtRound {
  rt_u64 head;           // for a round of all: the position of its first message,
  rt_u32 want;           // how many messages it is for, at most,
  rt_u32 leave;          // or why there is none
  rt_u32 has_faulted;
  // A handler was left in the middle; by turns, so that nobody sees in one turn what comes in the next.
  rt_u32 interrupted[2];
  // Each warp's part of what they agree on, first before and then behind the handlers: nobody writes to one of these
  // while somebody still reads it.
  rt_u32 least[2][RT_WARPS];
};

// Who calls.
struct RtThread {
  rt_u32 lane, warp;
  bool is_wide;          // this round is for all warps of the block
  RtRound* round;
};

// Known to the compiler where there is one warp.
RT_FN bool rt_is_wide(const RtThread& thread) { return RT_WARPS > 1 && thread.is_wide; }

// Does anybody in this round say so? What they wrote to memory before is there for all.
RT_FN bool rt_any(const RtThread& thread, bool vote) {
  if (rt_is_wide(thread)) return __syncthreads_or(vote) != 0;
  __syncwarp();
  return __any_sync(RT_ALL_LANES, vote);
}

// The least of everybody's values in this round. As above.
RT_FN rt_u32 rt_agree(const RtThread& thread, rt_u32 value, rt_u32 time) {
  value = rt_least(value);
  if (rt_is_wide(thread)) {
    if (thread.lane == 0) thread.round->least[time][thread.warp] = value;
    __syncthreads();
    for (rt_u32 warp = 0; warp < blockDim.x / RT_LANES; warp++) {
      const rt_u32 other = thread.round->least[time][warp];
      value = other < value ? other : value;
    }
  } else {
    __syncwarp();
  }
  return value;
}

// Behind it are four words more: is it skipped, and its route.
#define RT_SHARED_STRIDE (RT_SHARED_MESSAGE + 4)

// Is this a granule of a slot of that lap?
RT_FN bool rt_is_of(rt_u64 granule, rt_u32 lap) { return (((rt_u32)(granule >> 32) ^ lap) & ~RT_SKIPPED) == 0; }

// Loads of granules that a lane has under way at once: each takes a turn over the bus. A warp takes as many messages as it
// has lanes, at most.
#define RT_LOADS (RT_SLOT_GRANULES < 8u ? RT_SLOT_GRANULES : 8u)

// Copies granules from the rings, from number `base` of `want` messages on, so many for each lane of the warp. The first
// message that this lane found incomplete, or `want`.
template <rt_u32 LOADS>
RT_FN rt_u32 rt_fetch(const RtLaunch& launch, rt_u64 head, rt_u32 want, rt_u32 base, rt_u32* messages, rt_u32 lane) {
  rt_u64 granules[LOADS];
#if RT_SHAPE != RT_INSTANCES
  rt_u64 linked[LOADS];
#endif
#pragma unroll
  for (rt_u32 i = 0; i < LOADS; i++) {
    const rt_u32 index = base + i * RT_LANES + lane, slot = index / RT_SLOT_GRANULES;
    if (slot >= want) continue;
    const rt_u64 at = rt_place(launch, head + slot) * RT_SLOT_GRANULES + index % RT_SLOT_GRANULES;
    granules[i] = rt_load_granule(launch.input + at);
#if RT_SHAPE != RT_INSTANCES
    if (launch.linked) linked[i] = rt_load_granule(launch.linked + at);
#endif
  }
  rt_u32 missing = want;
#pragma unroll
  for (rt_u32 i = 0; i < LOADS; i++) {
    const rt_u32 index = base + i * RT_LANES + lane, slot = index / RT_SLOT_GRANULES, part = index % RT_SLOT_GRANULES;
    if (slot >= want) continue;
    const rt_u32 lap = rt_lap(launch, head + slot);
    rt_u64 granule = granules[i];
#if RT_SHAPE != RT_INSTANCES
    if (launch.linked && rt_is_of(linked[i], lap)) granule = linked[i];
#endif
    rt_u32* message = messages + slot * (RT_SHARED_STRIDE);
    if (!rt_is_of(granule, lap)) missing = slot < missing ? slot : missing;
    if (part == 0) message[RT_SHARED_MESSAGE] = ((rt_u32)(granule >> 32) ^ lap) & RT_SKIPPED;
#if RT_ROUTED
    if (part == RT_SLOT_GRANULES - 1) message[RT_SHARED_MESSAGE + 1] = (rt_u32)granule;
#endif
#if RT_MESSAGE_WORDS > 0
    if (part < RT_MESSAGE_WORDS) message[part] = (rt_u32)granule;
#endif
  }
  return missing;
}

// Copies up to `want` messages from the rings; how many were complete, from the first on. All lanes of a warp call it.
RT_FN rt_u32 rt_receive(const RtLaunch& launch, rt_u64 head, rt_u32 want, rt_u32* messages, rt_u32 lane) {
  rt_u32 ready = rt_least(rt_fetch<1>(launch, head, want, 0, messages, lane));
  // Nobody pays for the rest of what has not come.
  if (want * RT_SLOT_GRANULES > RT_LANES && ready > 0) {
    rt_u32 complete = ready;
    for (rt_u32 base = RT_LANES; base < ready * RT_SLOT_GRANULES; base += RT_LOADS * RT_LANES) {
      const rt_u32 found = rt_fetch<RT_LOADS>(launch, head, ready, base, messages, lane);
      complete = found < complete ? found : complete;
    }
    ready = rt_least(complete);
  }
#if RT_TABLES > 0
  if (ready > 0) rt_fence();
#endif
  __syncwarp();
  return ready;
}

// Writes what became of a message.
RT_FN void rt_record(const RtLaunch& launch, rt_u64 position, rt_u32 status, const RtReply& reply,
                     const RtPrivates& privates) {
  rt_u64* at = launch.output + rt_place(launch, position) * RT_RECORD_GRANULES;
  const rt_u64 stamp = (rt_u64)rt_lap(launch, position) << 32;
#if RT_OUTPUTS > 0 || RT_REPLY_WORDS > 0
  if (status == RT_RECORD_DONE) {
    rt_u32 next = 1;
#if RT_OUTPUTS > 0
    const unsigned char* bytes = (const unsigned char*)&privates;
    for (rt_u32 output = 0; output < RT_OUTPUTS; output++) {
      rt_u32 count;
      memcpy(&count, bytes + rt_outputs[output].count_offset, 4);
      rt_store_granule(at + next++, stamp | count);
    }
#endif
#if RT_REPLY_WORDS > 0
    for (rt_u32 i = 0; i < RT_REPLY_WORDS; i++) {
      rt_u32 word;
      memcpy(&word, (const unsigned char*)&reply + i * 4, 4);
      rt_store_granule(at + next++, stamp | word);
    }
#endif
#if RT_OUTPUTS > 0
    for (rt_u32 output = 0; output < RT_OUTPUTS; output++) {
      const RtOutput facts = rt_outputs[output];
      rt_u32 count;
      memcpy(&count, bytes + facts.count_offset, 4);
      for (rt_u32 item = 0; item < count && item < facts.most; item++) {
        for (rt_u32 i = 0; i < facts.words; i++) {
          rt_u32 word;
          memcpy(&word, bytes + facts.items_offset + item * facts.stride + i * 4, 4);
          rt_store_granule(at + next++, stamp | word);
        }
      }
    }
#endif
  }
#endif
  rt_store_granule(at, stamp | status);
}

#if RT_ROUTED
// Finds out where what a message emits goes; `false` if it goes through the host.
RT_FN bool rt_find_route(const RtLaunch& launch, rt_u64 position, rt_u32 number, RtRoute& route) {
  if (number == 0 || position < launch.routed) return false;
  const rt_u64* from = launch.routes + number % RT_ROUTES * RT_ROUTE_GRANULES;
  while (route.number != number) {
    // It was written before the slot that has its number, and is complete as soon as it can be seen. All loads are under way
    // at the same time.
    rt_u64 granules[RT_ROUTE_GRANULES];
#pragma unroll
    for (rt_u32 i = 0; i < RT_ROUTE_GRANULES; i++) granules[i] = rt_load_granule(from + i);
    rt_u32 words[RT_ROUTE_GRANULES];
    bool is_whole = true;
#pragma unroll
    for (rt_u32 i = 0; i < RT_ROUTE_GRANULES; i++) {
      words[i] = (rt_u32)granules[i];
      is_whole = is_whole && (rt_u32)(granules[i] >> 32) == number;
    }
    if (!is_whole) continue;
    // Pairs with the host's release of each granule: the ring that it leads to has been cleared.
    rt_fence();
    memcpy(&route, words, sizeof(route));
  }
  return true;
}

// Puts what a message emitted, its first `count` values, into the ring at the link's end; all that it might have emitted
// besides is skipped there.
RT_FN void rt_pass(const RtRoute& route, rt_u64 position, rt_u32 count, const RtPrivates* privates) {
  const RtOutput facts = rt_outputs[0];
  rt_u64* ring = (rt_u64*)(route.ring[0] | (rt_u64)route.ring[1] << 32);
  const rt_u64 first = position * facts.most + (route.offset[0] | (rt_u64)route.offset[1] << 32);
  for (rt_u32 item = 0; item < facts.most; item++) {
    const rt_u64 to = first + item;
    const bool is_skipped = item >= count;
    rt_u64* at = ring + (to & ((1ull << route.shift) - 1ull)) * route.granules;
    const rt_u64 stamp = (rt_u64)(((rt_u32)(to >> route.shift) + 1u) ^ (is_skipped ? RT_SKIPPED : 0u)) << 32;
    for (rt_u32 i = 0; i < route.granules; i++) {
      // Behind the value there may be the route of the message that it is.
      rt_u32 word = i < facts.words ? 0 : route.next;
      if (i < facts.words && !is_skipped) {
        memcpy(&word, (const unsigned char*)privates + facts.items_offset + item * facts.stride + i * 4, 4);
      }
      rt_store_granule(at + i, stamp | word);
    }
  }
}
#endif

// Is there a record of this message already? The launch before this one was interrupted among messages that it ran at
// the same time, and some of them came to their end.
RT_FN bool rt_is_over(const RtLaunch& launch, rt_u64 position) {
  if (position >= launch.again) return false;
  const rt_u64 granule = rt_load_granule(launch.output + rt_place(launch, position) * RT_RECORD_GRANULES);
  return (rt_u32)(granule >> 32) == rt_lap(launch, position);
}

// Tells the host that all messages before this position have been begun: they do not count as queued any more.
RT_FN void rt_begun(const RtLaunch& launch, rt_u64 position) { rt_store_word(launch.leave + 4, (rt_u32)position); }

// Goes past messages that are over: the host may have taken their records as soon as it had the one before them, and may
// have put others into their slots. Behind the first that is not over there is none of those. All lanes of a warp call it.
RT_FN rt_u64 rt_go_past(const RtLaunch& launch, rt_u64 head, rt_u32 lane) {
  if (RT_SHAPE == RT_SERIAL || head >= launch.again) return head;
  rt_u64 next = head;
  if (lane == 0) {
    while (rt_is_over(launch, next)) next++;
    if (next != head) rt_begun(launch, next);
  }
  return __shfl_sync(RT_ALL_LANES, next, 0);
}

// Tells the host that the kernel runs, by a value other than the last one: when it comes, while it has nothing to do, in
// handlers with loops, and between the turns of an instance's messages. Between batches, and between the messages of a serial
// kernel, the positions that have been begun say so.
RT_FN void rt_beat(const RtLaunch& launch, rt_u32 value) {
  rt_store_word((rt_u32*)launch.stop + RT_HEARTBEAT, value);
}

// A slot with nothing in it has a record, and what there is for the kernel behind this one has nothing in it either.
RT_FN void rt_skip(const RtLaunch& launch, rt_u64 position, const rt_u32* message, RtRoute& route) {
#if RT_ROUTED
  if (rt_find_route(launch, position, message[RT_SHARED_MESSAGE + 1], route)) rt_pass(route, position, 0, nullptr);
#endif
  rt_store_granule(launch.output + rt_place(launch, position) * RT_RECORD_GRANULES,
                   (rt_u64)rt_lap(launch, position) << 32 | RT_RECORD_SKIPPED);
}

// Runs one message; its state, in memory, changes only if all goes well, or to what replaces it. The code it ended with.
RT_FN rt_u32 rt_message(const RtLaunch& launch, rt_u64 position, const rt_u32* message, rt_u32* state,
                        const rt_u32* fallback, RtRoute& route) {
  if (message[RT_SHARED_MESSAGE] != 0) {
    rt_skip(launch, position, message, route);
    return RT_RECORD_DONE;
  }
  RtState copy;
  RtReply reply;
  RtPrivates privates;
#if RT_STATE_WORDS > 0
  rt_u32 words[RT_STATE_WORDS];
  rt_copy<RT_STATE_WORDS>(words, state);
  memcpy(&copy, words, sizeof(words));
#endif
  rt_u32 code = rt_run(*(const RtMessage*)message, copy, reply, privates, launch.tables,
                       (volatile const rt_u32*)launch.stop);
  if (code == RT_RUN_INTERRUPTED) return code;
  if (code == 0) {
#if RT_STATE_WORDS > 0
    memcpy(words, &copy, sizeof(words));
    rt_copy<RT_STATE_WORDS>(state, words);
#endif
    code = RT_RECORD_DONE;
  } else if (fallback) {
    rt_copy<RT_STATE_WORDS>(state, fallback);
  }
#if RT_TABLES > 0
  // What it wrote to tables is there for whoever sees what came of it: the next kernel, too.
  rt_fence();
#endif
#if RT_ROUTED
  if (rt_find_route(launch, position, message[RT_SHARED_MESSAGE + 1], route)) {
    rt_u32 count = 0;
    if (code == RT_RECORD_DONE) memcpy(&count, (const unsigned char*)&privates + rt_outputs[0].count_offset, 4);
    rt_pass(route, position, count, &privates);
  }
#endif
  rt_record(launch, position, code, reply, privates);
  return code;
}

// How many messages of this batch before one of another warp go to the same instance.
RT_FN rt_u32 rt_before(const RtThread& thread, const rt_u32* messages, rt_u32 instance) {
  rt_u32 count = 0;
#if RT_SHAPE == RT_INSTANCES
  for (rt_u32 index = 0; index < thread.warp * RT_LANES; index++) {
    count += messages[index * RT_SHARED_STRIDE + RT_INSTANCE_WORD] == instance ? 1u : 0u;
  }
#endif
  return count;
}

// The messages of one batch: how many are over, from the first on, and in `leave` why no more are to be begun.
RT_FN rt_u32 rt_batch(const RtLaunch& launch, rt_u64 head, rt_u32 ready, const rt_u32* messages, rt_u32* state,
                      const RtThread& thread, rt_u32* leave, RtRoute& route) {
#if RT_SHAPE == RT_SERIAL
  rt_u32 over = 0, why = 0;
  if (thread.lane == 0) {
    rt_u64 looked = 0;
    while (over < ready && why == 0) {
      if (over > 0) {
        const rt_u64 now = rt_now();
        if (looked == 0) looked = now;
        if (now - looked > RT_LOOK_NS) {
          looked = now;
          if (rt_load_word(launch.stop) != 0) {
            why = RT_EXIT_STOPPED;
            break;
          }
        }
      }
      rt_begun(launch, head + over + 1);
      const rt_u32 code =
          rt_message(launch, head + over, messages + over * (RT_SHARED_STRIDE), state, launch.fallback, route);
      if (code == RT_RUN_INTERRUPTED) {
        why = RT_EXIT_INTERRUPTED;
        break;
      }
      over++;
      // As below.
      if (code != RT_RECORD_DONE) why = RT_EXIT_FAULT;
    }
  }
  __syncwarp();
  *leave = __shfl_sync(RT_ALL_LANES, why, 0);
  return __shfl_sync(RT_ALL_LANES, over, 0);
#else
  const rt_u32 index = thread.warp * RT_LANES + thread.lane;
  const rt_u64 position = head + index;
  const rt_u32* message = messages + index * RT_SHARED_STRIDE;
  const bool mine = index < ready;
  bool has_faulted = false;
  if (index == 0) rt_begun(launch, head + ready);
  bool is_over = !mine || rt_is_over(launch, position);
#if RT_SHAPE == RT_INSTANCES
  // Messages of one instance run one after the other: each waits for as many turns as there are such before it.
  const rt_u32 instance = mine ? message[RT_INSTANCE_WORD] : 0;
  const rt_u32 peers = __match_any_sync(RT_ALL_LANES, instance) & __ballot_sync(RT_ALL_LANES, mine);
  const rt_u32 turn = __popc(peers & ((1u << thread.lane) - 1u)) + rt_before(thread, messages, instance);
  for (rt_u32 now = 0;; now++) {
    if (mine && turn == now && !is_over) {
      // Each turn may take as long as a message. Most batches have one, and pay nothing.
      if (now > 0) rt_beat(launch, now + 1u);
      const rt_u32 at = instance * RT_STATE_WORDS;
      const rt_u32 code =
          rt_message(launch, position, message, state + at, launch.fallback ? launch.fallback + at : nullptr, route);
      is_over = code != RT_RUN_INTERRUPTED;
      has_faulted = is_over && code != RT_RECORD_DONE;
      if (!is_over) thread.round->interrupted[now % 2] = 1;
    }
    if (!rt_any(thread, mine && turn > now) || thread.round->interrupted[now % 2] != 0) break;
  }
#else
  if (!is_over) {
    const rt_u32 code = rt_message(launch, position, message, state, nullptr, route);
    is_over = code != RT_RUN_INTERRUPTED;
    has_faulted = is_over && code != RT_RECORD_DONE;
  }
  __syncwarp();
#endif
  // The kernel may fail by a fault: nothing behind its neighbours must have run then.
  if (has_faulted) thread.round->has_faulted = 1;
  const rt_u32 first = rt_agree(thread, is_over ? ready : index, 1);
  *leave = first < ready ? RT_EXIT_INTERRUPTED : thread.round->has_faulted ? RT_EXIT_FAULT : 0;
  return first;
#endif
}

// Waits for the bell, if there is one that says that the host has written no message behind those that were taken; `false` if
// there is none, or it says something else. The first thread's.
RT_FN bool rt_doze(const RtLaunch& launch, rt_u64 head) {
  if (!launch.bell || rt_load_word(launch.bell) != (rt_u32)head) return false;
  const rt_u64 begun = rt_now();
  do {
    rt_sleep(100u);
  } while (rt_load_word(launch.bell) == (rt_u32)head && rt_now() - begun < RT_DOZE_NS);
  return true;
}

// Two blocks of a multiprocessor: without a number NVRTC spills registers to memory so that there is room for more, and what
// is wanted here is that a message is handled soon.
extern "C" __global__ void __launch_bounds__(RT_WARPS* RT_LANES, 2) rt_resident(RtLaunch launch) {
  __shared__ RtRound round;
  const rt_u32 warp = RT_WARPS > 1 ? threadIdx.x / RT_LANES : 0;
  RtThread thread = {threadIdx.x - warp * RT_LANES, warp, false, &round};
  const bool is_first = threadIdx.x == 0;
  rt_u32* messages = rt_shared();
#if RT_SHAPE == RT_SERIAL && RT_STATE_WORDS > 0
  // Only the first thread touches it.
  __shared__ rt_u32 state[RT_STATE_WORDS];
  if (is_first) rt_copy<RT_STATE_WORDS>(state, launch.states);
#else
  rt_u32* state = launch.states;
#endif
  const rt_u32 most = RT_WARPS > 1 && blockDim.x < RT_BATCH ? blockDim.x : RT_BATCH;
  rt_u64 head = launch.first, idle_since = 0;
  rt_u32 want = 1, empty = 0, leave = 0;
  // The one that this thread's messages took last.
  RtRoute route = {};
  if (is_first) {
    rt_beat(launch, 1);
    round.has_faulted = round.interrupted[0] = round.interrupted[1] = 0;
  }
  __syncwarp();
  for (;;) {
    if (thread.warp == 0) head = rt_go_past(launch, head, thread.lane);
    if (RT_WARPS > 1) {
      // Of warps other than the first one each round is wide.
      thread.is_wide = thread.warp > 0 || want > RT_LANES || (leave != 0 && blockDim.x > RT_LANES);
      if (thread.is_wide) {
        if (is_first) {
          round.head = head;
          round.want = want;
          round.leave = leave;
        }
        __syncthreads();
        head = round.head;
        want = round.want;
        leave = round.leave;
      }
    }
    if (leave != 0) break;
    // Both loads are under way at the same time.
    const rt_u32 stop = is_first ? rt_load_word(launch.stop) : 0;
    const rt_u32 from = thread.warp * RT_LANES;
    const rt_u32 part = RT_WARPS == 1 ? want : want < from ? 0 : want - from < RT_LANES ? want - from : RT_LANES;
    rt_u32 ready = rt_receive(launch, head + from, part, messages + from * RT_SHARED_STRIDE, thread.lane);
    const bool stops = __shfl_sync(RT_ALL_LANES, stop, 0) != 0;
    if (rt_is_wide(thread)) ready = rt_agree(thread, stops ? 0 : ready < part ? from + ready : want, 0);
    if (stops) {
      leave = RT_EXIT_STOPPED;
    } else if (ready > 0) {
      // Nothing reads the copies any more when this comes back.
      head += rt_batch(launch, head, ready, messages, state, thread, &leave, route);
      want = ready < want ? ready : want * 2 < most ? want * 2 : most;
      empty = 0;
    } else if (thread.warp == 0) {
      want = 1;
      empty++;
      if (empty % 64u == 0) {
        if (is_first) rt_beat(launch, empty);
        const rt_u64 now = __shfl_sync(RT_ALL_LANES, rt_now(), 0);
        if (empty == 64u) idle_since = now;
        if (now - idle_since > launch.idle_ns) leave = RT_EXIT_IDLE;
      }
      const rt_u32 dozed = is_first && empty > RT_LISTENS && rt_doze(launch, head) ? 1u : 0u;
      // Of all lanes: those that sleep while the first one is awake would keep it waiting.
      const bool has_dozed = __shfl_sync(RT_ALL_LANES, dozed, 0) != 0;
      if (empty > RT_SPINS && !has_dozed) rt_sleep(empty > RT_SPINS * 16u ? 1000u : 100u);
    }
  }
  if (is_first) {
#if RT_SHAPE == RT_SERIAL && RT_STATE_WORDS > 0
    rt_copy<RT_STATE_WORDS>(launch.states, state);
#endif
    launch.leave[0] = (rt_u32)head;
    launch.leave[1] = (rt_u32)(head >> 32);
    launch.leave[2] = leave;
  }
  // What the other threads wrote comes before the epoch, too.
  rt_fence();
  __syncthreads();
  if (is_first) rt_publish_word(launch.leave + 3, launch.epoch);
}
