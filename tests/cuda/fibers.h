// The lanes of a block, in warps, as fibers of one thread, and what they do together.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void* __tsan_get_current_fiber(void);
}
#endif

namespace emulated {

constexpr unsigned LANES = 32;
// Emitted values and private variables of a lane are on its stack; entry points have no emitted values.
constexpr size_t STACK = 4 << 20;
constexpr size_t SMALL_STACK = 512 << 10;

#if defined(__x86_64__)
// Saves what a call has to keep, and the stack; goes on with another's.
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch,@function
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulated_switch,.-emulated_switch
)");
#endif

struct Block;
struct Barrier;

struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  void* sanitizer = nullptr;
  Block* block = nullptr;
  unsigned index[3] = {0, 0, 0};
  unsigned lane = 0;
  bool is_over = false;
  // Where it waits, and for the end of which generation.
  const Barrier* waits_at = nullptr;
  uint64_t generation = 0;
};

// Where lanes meet: those of a warp, or of a block.
struct Barrier {
  unsigned running = 0;
  unsigned arrived = 0;
  uint64_t generation = 0;
  // Whether somebody said so on his way here, and at the last time: that stays until all have come here again.
  bool vote = false;
  bool verdict = false;

  void open() {
    verdict = vote;
    vote = false;
    arrived = 0;
    generation++;
  }
  // One of those that meet here is over.
  void lose() {
    running--;
    if (running > 0 && arrived == running) open();
  }
};

// Its lanes exchange values, in two places in turn, so that one barrier is enough.
struct Warp {
  Barrier barrier;
  uint64_t values[2][LANES];
};

// Its warps go each their own way between two barriers of the block.
struct Block {
  std::vector<Fiber> lanes;
  std::vector<Warp> warps;
  Barrier barrier;
  Fiber home;
  unsigned index[3] = {0, 0, 0};
  unsigned grid[3] = {1, 1, 1};
  unsigned size[3] = {1, 1, 1};
  void* shared = nullptr;
  std::function<void()> body;
  bool has_trapped = false;
};

inline thread_local Fiber* current = nullptr;

// Lanes that can go on do so in no order, and in another one each time; else in that of their numbers. Where they should
// wait for each other and do not, it shows.
inline bool is_shuffled = false;
inline thread_local unsigned random_state = 1;

inline void go(Fiber* to) {
  Fiber* from = current;
  current = to;
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
#if defined(__x86_64__)
  emulated_switch(&from->stack_pointer, to->stack_pointer);
#else
  swapcontext(&from->context, &to->context);
#endif
}

inline bool can_go_on(const Fiber& lane) {
  if (lane.is_over) return false;
  return !lane.waits_at || lane.waits_at->generation != lane.generation || lane.block->has_trapped;
}

// The next lane that can go on, or this one, or home if there is none any more.
inline Fiber* next_lane(Block* block, unsigned after) {
  const unsigned count = (unsigned)block->lanes.size();
  if (is_shuffled) {
    random_state = random_state * 1664525u + 1013904223u;
    after += random_state >> 16;
  }
  for (unsigned i = 1; i <= count; i++) {
    Fiber* lane = &block->lanes[(after + i) % count];
    if (can_go_on(*lane)) return lane;
  }
  if (block->barrier.running == 0) return &block->home;
  fprintf(stderr, "emulated CUDA: the lanes of a block wait at different barriers\n");
  abort();
}

inline Warp& own_warp() { return current->block->warps[current->lane / LANES]; }

[[noreturn]] inline void end_lane() {
  Block* block = current->block;
  current->is_over = true;
  own_warp().barrier.lose();
  block->barrier.lose();
  go(next_lane(block, current->lane));
  abort();
}

inline void wait_at(Barrier& barrier) {
  if (++barrier.arrived == barrier.running) {
    barrier.open();
  } else {
    current->waits_at = &barrier;
    current->generation = barrier.generation;
    Fiber* next = next_lane(current->block, current->lane);
    if (next != current) go(next);
    current->waits_at = nullptr;
  }
  if (current->block->has_trapped) end_lane();
}

inline void meet_block() { wait_at(current->block->barrier); }
inline void meet_warp() { wait_at(own_warp().barrier); }

// Does any lane of the block say so?
inline bool any_of_block(bool vote) {
  Barrier& barrier = current->block->barrier;
  barrier.vote |= vote;
  meet_block();
  return barrier.verdict;
}

// Everybody's value in a warp.
inline const uint64_t* share(uint64_t value) {
  Warp& warp = own_warp();
  uint64_t* values = warp.values[warp.barrier.generation & 1];
  values[current->lane % LANES] = value;
  meet_warp();
  return values;
}

inline void lane_main() {
  current->block->body();
  end_lane();
}

struct Size {
  unsigned x, y, z;
};

// Runs the blocks of a grid on this thread, one after the other, each with so many bytes of shared memory besides what
// its code declares; `false` if one trapped.
inline bool run_grid(Size grid, Size size, size_t shared, size_t stack, std::function<void()> body) {
  const unsigned count = size.x * size.y * size.z;
  std::vector<max_align_t> memory(shared / sizeof(max_align_t) + 1);
  char* stacks = (char*)mmap(nullptr, stack * count, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stacks == MAP_FAILED) abort();
  bool good = true;
  for (uint64_t number = 0; good && number < (uint64_t)grid.x * grid.y * grid.z; number++) {
    Block* block = new Block;
    block->body = body;
    block->lanes.resize(count);
    block->warps.resize((count + LANES - 1) / LANES);
    block->shared = memory.data();
    block->index[0] = (unsigned)(number % grid.x);
    block->index[1] = (unsigned)(number / grid.x % grid.y);
    block->index[2] = (unsigned)(number / grid.x / grid.y);
    block->grid[0] = grid.x;
    block->grid[1] = grid.y;
    block->grid[2] = grid.z;
    block->size[0] = size.x;
    block->size[1] = size.y;
    block->size[2] = size.z;
    block->barrier.running = count;
    for (unsigned i = 0; i < count; i++) {
      Fiber& lane = block->lanes[i];
      lane.block = block;
      block->warps[i / LANES].barrier.running++;
      lane.lane = i;
      lane.index[0] = i % size.x;
      lane.index[1] = i / size.x % size.y;
      lane.index[2] = i / size.x / size.y;
      char* top = stacks + stack * (i + 1);
#if defined(__x86_64__)
      void** frame = (void**)top;
      *--frame = nullptr;
      *--frame = (void*)&lane_main;
      for (int registers = 0; registers < 6; registers++) *--frame = nullptr;
      lane.stack_pointer = frame;
#else
      getcontext(&lane.context);
      lane.context.uc_stack.ss_sp = top - stack;
      lane.context.uc_stack.ss_size = stack;
      lane.context.uc_link = nullptr;
      makecontext(&lane.context, (void (*)())lane_main, 0);
#endif
#if defined(__SANITIZE_THREAD__)
      lane.sanitizer = __tsan_create_fiber(0);
#endif
    }
    block->home.block = block;
#if defined(__SANITIZE_THREAD__)
    block->home.sanitizer = __tsan_get_current_fiber();
#endif
    current = &block->home;
    go(&block->lanes[0]);
    current = nullptr;
#if defined(__SANITIZE_THREAD__)
    for (Fiber& lane : block->lanes) __tsan_destroy_fiber(lane.sanitizer);
#endif
    good = !block->has_trapped;
    delete block;
  }
  munmap(stacks, stack * count);
  return good;
}

}  // namespace emulated
