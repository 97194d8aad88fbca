// A stand-in for libcuda, for tests: one device whose kernels are threads of this process. See README.md.
#include "fibers.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <sched.h>
#include <set>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  NOT_FOUND = 500,
  NOT_READY = 600,
  LAUNCH_FAILED = 719,
  ALREADY_REGISTERED = 712,
  NOT_REGISTERED = 713,
};

// What RINGWORK_EMULATION asks for.
struct Seeds {
  bool torn = false, stale = false, no_device = false, no_driver = false, old_driver = false, unordered = false, deaf = false, no_times = false, time_limit = false, no_registration = false,
       reset_complains = false, reset_fails = false, one_queue = false, ingress_exits = false;
  unsigned error = 0, exit = 0, hang = 0, stall = 0, lost = 0, units = 4, claims = 0, memory = 2048, doze = 20;
  Seeds() {
    const char* text = getenv("RINGWORK_EMULATION");
    std::string rest = text ? text : "";
    while (!rest.empty()) {
      const size_t end = rest.find(',');
      const std::string one = rest.substr(0, end);
      rest = end == std::string::npos ? "" : rest.substr(end + 1);
      auto number = [&](const char* name, unsigned& into) {
        if (one.rfind(name, 0) == 0) into = (unsigned)atoi(one.c_str() + strlen(name));
      };
      torn |= one == "torn";
      emulated::is_shuffled |= one == "shuffled";
      stale |= one == "stale";
      no_device |= one == "no-device";
      no_driver |= one == "no-driver";
      old_driver |= one == "old-driver";
      unordered |= one == "unordered";
      deaf |= one == "deaf";
      no_times |= one == "no-times";
      time_limit |= one == "time-limit";
      no_registration |= one == "no-registration";
      one_queue |= one == "one-queue";
      ingress_exits |= one == "ingress-exits";
      reset_complains |= one == "reset-complains";
      reset_fails |= one == "reset-fails";
      number("error=", error);
      number("exit=", exit);
      number("hang=", hang);
      number("stall=", stall);
      number("lost=", lost);
      number("units=", units);
      number("claims=", claims);
      number("memory=", memory);
      number("doze=", doze);
    }
  }
};

const Seeds& seeds() {
  static const Seeds seeds;
  return seeds;
}

std::atomic<bool> is_initialized{false};
// An error that stays until the context is reset.
std::atomic<int> sticky{0};
// Counts resets and errors: kernels of an earlier generation end.
std::atomic<unsigned> generation{0};
std::atomic<unsigned> launches{0};
thread_local void* current_context = nullptr;
char the_context;

// ---- what a kernel's thread has

struct Pending {
  unsigned long long* to;
  unsigned long long value;
};

struct Launch {
  unsigned generation;
  unsigned number;
  // It ends by itself after a while.
  bool exits;
  unsigned random = 1;
  unsigned naps = 0;
  std::vector<Pending> pending;
  std::vector<Pending> seen = std::vector<Pending>(64);
  // For the sanitizer, which knows no fences: whether there was one, and what was looked at since. From the first one on all
  // stores release, so that a fence that is missing behind a handler is not reported where there is one before it.
  bool has_fenced = false;
  std::vector<const unsigned long long*> looked_at;
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
};

thread_local Launch* launch = nullptr;

unsigned draw() { return (launch->random = launch->random * 1664525u + 1013904223u) >> 16; }

#ifdef __SANITIZE_THREAD__
constexpr bool KNOWS_FENCES = false;
#else
constexpr bool KNOWS_FENCES = true;
#endif

// A granule becomes visible.
void emit(const Pending& one) {
  __atomic_store_n(one.to, one.value, launch->has_fenced ? __ATOMIC_RELEASE : __ATOMIC_RELAXED);
}

void emit_some(size_t keep) {
  while (launch->pending.size() > keep) {
    const size_t which = draw() % launch->pending.size();
    emit(launch->pending[which]);
    launch->pending.erase(launch->pending.begin() + (long)which);
    if (draw() % 16 == 0) sched_yield();
  }
}

bool has_run(int milliseconds) {
  return std::chrono::steady_clock::now() - launch->begun > std::chrono::milliseconds(milliseconds);
}

// Does this kernel have to end without having come to its end?
void look_for_the_end() {
  bool over = launch->generation != generation.load(std::memory_order_relaxed);
  const Seeds& s = seeds();
  if (!over && (launch->number == s.error || launch->exits)) {
    if (has_run(3)) {
      over = true;
      if (launch->number == s.error) {
        sticky = LAUNCH_FAILED;
        generation++;
      }
    }
  }
  // It is there, and does nothing any more.
  while (!over && launch->number == s.stall && has_run(3)) {
    usleep(1000);
    over = launch->generation != generation.load(std::memory_order_relaxed);
  }
  if (over) {
    emulated::current->block->has_trapped = true;
    emulated::end_lane();
  }
}

// ---- what modules are given

struct EmulatedIndex {
  unsigned x, y, z;
};

struct Emulation {
  EmulatedIndex* (*thread_index)();
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
  unsigned long long (*doze)();
};

// Does nothing that the host writes from now on reach this kernel, nor what it wrote before?
bool is_deaf() { return seeds().deaf || launch->number == seeds().lost; }

void flush() {
  if (!launch->pending.empty()) emit_some(0);
  if (KNOWS_FENCES) return __atomic_thread_fence(__ATOMIC_SEQ_CST);
  // What was looked at before a fence is acquired by it, what is stored behind it released.
  for (const unsigned long long* at : launch->looked_at) __atomic_load_n(at, __ATOMIC_ACQUIRE);
  launch->looked_at.clear();
  launch->has_fenced = true;
}

// A granule as the device sees it.
unsigned long long look_at(const unsigned long long* from) {
  if (emulated::current->index[0] == 0) {
    look_for_the_end();
    if (!launch->pending.empty() && draw() % 4 == 0) emit_some(0);
  }
  // What was in the memory before anybody wrote to it.
  if (is_deaf()) return 0;
  const unsigned long long value = __atomic_load_n(from, __ATOMIC_RELAXED);
  if (!KNOWS_FENCES) {
    // An idle kernel looks on and on: the last ones are kept, more than a batch has. All are there while it runs.
    auto& all = launch->looked_at;
    if (all.size() == 32768) all.erase(all.begin(), all.begin() + 16384);
    all.push_back(from);
  }
  if (seeds().stale) {
    Pending& seen = launch->seen[((uintptr_t)from / 8) % launch->seen.size()];
    const bool is_old = seen.to == from && draw() % 8 == 0;
    const unsigned long long old = seen.value;
    seen = {const_cast<unsigned long long*>(from), value};
    if (is_old) return old;
  }
  return value;
}

const Emulation emulation = {
    [] { return (EmulatedIndex*)emulated::current->index; },
    [] { return (EmulatedIndex*)emulated::current->block->index; },
    [] { return (EmulatedIndex*)emulated::current->block->size; },
    [] { return (EmulatedIndex*)emulated::current->block->grid; },
    [] { return emulated::current->block->shared; },
    [](unsigned long long value, unsigned from) -> unsigned long long {
      return emulated::share(value)[from % emulated::LANES];
    },
    [](bool vote) {
      const uint64_t* votes = emulated::share(vote);
      unsigned mask = 0;
      for (unsigned i = 0; i < emulated::LANES; i++) mask |= (unsigned)votes[i] << i;
      return mask;
    },
    [](unsigned value) {
      const uint64_t* values = emulated::share(value);
      unsigned mask = 0;
      for (unsigned i = 0; i < emulated::LANES; i++) mask |= (values[i] == value ? 1u : 0u) << i;
      return mask;
    },
    [] { emulated::meet_warp(); },
    [] { emulated::meet_block(); },
    [](bool vote) { return emulated::any_of_block(vote); },
    [](unsigned) {
      if (emulated::current->index[0] != 0) return;
      emit_some(0);
      look_for_the_end();
      if (launch->naps++ < 32) {
        sched_yield();
      } else {
        usleep(launch->naps < 256 ? 50 : 500);
      }
    },
    [] {
      sticky = LAUNCH_FAILED;
      generation++;
      emulated::current->block->has_trapped = true;
      emulated::end_lane();
    },
    []() -> unsigned long long {
      timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      return (unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec;
    },
    look_at,
    [](unsigned long long* to, unsigned long long value) {
      launch->naps = 0;
      if (!seeds().torn) return emit({to, value});
      launch->pending.push_back({to, value});
      if (launch->pending.size() > 24) emit_some(draw() % 24);
    },
    [](const unsigned* from) -> unsigned {
      // A handler that loops until the word changes ends with its context, too.
      if (launch->generation != generation.load(std::memory_order_relaxed)) {
        emulated::current->block->has_trapped = true;
        emulated::end_lane();
      }
      return is_deaf() ? 0 : __atomic_load_n(from, __ATOMIC_RELAXED);
    },
    [](unsigned* to, unsigned value) {
      flush();
      // As a mistake in `resident.cuh` would have it.
      if (seeds().unordered) return __atomic_store_n(to, value, __ATOMIC_RELAXED);
      __atomic_store_n(to, value, __ATOMIC_RELEASE);
    },
    [] { flush(); },
    []() -> unsigned long long { return seeds().doze * 1000ull; },
};

// ---- multiprocessors

// What a block takes of a multiprocessor, or what that has.
struct Part {
  unsigned blocks, threads;
  size_t shared;

  bool fits_into(const Part& free) const {
    return blocks <= free.blocks && threads <= free.threads && shared <= free.shared;
  }
};

constexpr Part UNIT = {32, 2048, 100 << 10};

// Which kernels there is room for: one that finds none for its first block waits until others have left, as on a real
// device. What further blocks of a grid take does not count.
struct Units {
  std::mutex mutex;
  std::vector<Part> free = std::vector<Part>(seeds().units, UNIT);

  // The one that has the most room, so that a large block finds none earlier than it could.
  bool enter(const Part& part, size_t& at) {
    std::lock_guard<std::mutex> lock(mutex);
    at = 0;
    for (size_t i = 1; i < free.size(); i++) {
      if (free[i].threads > free[at].threads) at = i;
    }
    if (!part.fits_into(free[at])) return false;
    free[at] = {free[at].blocks - part.blocks, free[at].threads - part.threads, free[at].shared - part.shared};
    return true;
  }

  void leave(const Part& part, size_t at) {
    std::lock_guard<std::mutex> lock(mutex);
    free[at] = {free[at].blocks + part.blocks, free[at].threads + part.threads, free[at].shared + part.shared};
  }
};

// Never destroyed, as `sizes` below.
Units& units() {
  static Units& units = *new Units;
  return units;
}

// ---- streams

// What a stream was given while its work was recorded.
struct Graph {
  std::vector<std::function<void()>> work;
};

struct Stream {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> queue;
  bool is_busy = false, is_over = false;
  // Of the work that it was given, how much there was, and how much is done.
  unsigned long long given = 0, done = 0;
  std::thread thread;
  // Where work goes while it is recorded; of the one thread that uses the stream then.
  Graph* recording = nullptr;

  void push(std::function<void()> work) {
    std::lock_guard<std::mutex> lock(mutex);
    queue.push_back(std::move(work));
    given++;
    if (!thread.joinable()) thread = std::thread([this] { run(); });
    changed.notify_all();
  }

  void run() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return is_over || !queue.empty(); });
      if (queue.empty()) return;
      std::function<void()> work = std::move(queue.front());
      queue.pop_front();
      is_busy = true;
      lock.unlock();
      work();
      lock.lock();
      is_busy = false;
      done++;
      changed.notify_all();
    }
  }

  bool is_idle() {
    std::lock_guard<std::mutex> lock(mutex);
    return queue.empty() && !is_busy;
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return queue.empty() && !is_busy; });
  }
};

std::mutex streams_mutex;
// Never destroyed, as `sizes` below: threads of the process may still ask when it ends.
std::set<Stream*>& streams = *new std::set<Stream*>;

void wait_for_all() {
  std::set<Stream*> all;
  {
    std::lock_guard<std::mutex> lock(streams_mutex);
    all = streams;
  }
  for (Stream* stream : all) {
    // One may be destroyed meanwhile.
    for (;;) {
      {
        std::lock_guard<std::mutex> lock(streams_mutex);
        if (streams.count(stream) == 0 || stream->is_idle()) break;
      }
      usleep(50);
    }
  }
}

// What waits until all is done that the streams have been given up to now, but for one of them.
std::function<void()> after_all(Stream* but) {
  std::vector<std::pair<Stream*, unsigned long long>> before;
  std::lock_guard<std::mutex> lock(streams_mutex);
  for (Stream* stream : streams) {
    if (stream == but) continue;
    std::lock_guard<std::mutex> lock(stream->mutex);
    before.push_back({stream, stream->given});
  }
  return [before] {
    for (auto [stream, given] : before) {
      for (;;) {
        {
          std::lock_guard<std::mutex> lock(streams_mutex);
          if (streams.count(stream) == 0) break;
          std::lock_guard<std::mutex> own(stream->mutex);
          if (stream->done >= given) break;
        }
        usleep(50);
      }
    }
  };
}

// Bytes of device memory that are allocated, and how many at each address.
std::atomic<size_t> in_use{0};
std::mutex sizes_mutex;
// Never destroyed: threads that nobody waits for may free memory while the process ends.
std::map<unsigned long long, size_t>& sizes = *new std::map<unsigned long long, size_t>;

// Host memory that the driver allocated, and memory of the program's that is registered; how many bytes at each address.
std::mutex host_mutex;
std::map<char*, size_t>& allocated = *new std::map<char*, size_t>;
std::map<char*, size_t>& registered = *new std::map<char*, size_t>;

constexpr size_t PAGE = 4096;

size_t pages(size_t bytes) { return (bytes + PAGE - 1) & ~(PAGE - 1); }

// Is this byte in one of them?
bool has(const std::map<char*, size_t>& ranges, char* at) {
  auto next = ranges.upper_bound(at);
  if (next == ranges.begin()) return false;
  --next;
  return at < next->first + next->second;
}

struct Module {
  void* library;
};

struct Function {
  void (*run)(void*);
  size_t size;
  // It stays, and its lanes need deep stacks.
  bool is_resident;
  bool is_ingress;
  bool has_run;
};

int state() {
  if (!is_initialized) return NOT_INITIALIZED;
  return sticky.load();
}

// What waits for kernels keeps all other calls of the context waiting meanwhile, as the real driver does. Never destroyed, as
// `sizes`.
std::mutex& calls = *new std::mutex;

// At the beginning of each call of the context; `call` is let go of before a wait that keeps nobody else waiting.
#define CHECK()                           \
  std::unique_lock<std::mutex> call(calls); \
  if (int error = state()) return error;  \
  if (!current_context) return 201

}  // namespace

API int cuMemGetInfo_v2(size_t* free, size_t* total) {
  CHECK();
  *total = (size_t)seeds().memory << 20;
  *free = *total - in_use.load();
  return SUCCESS;
}

API int cuInit(unsigned) {
  if (seeds().no_device) return NO_DEVICE;
  if (seeds().no_driver) return 999;
  is_initialized = true;
  return SUCCESS;
}

API int cuDriverGetVersion(int* version) {
  *version = seeds().old_driver ? 12020 : seeds().no_times ? 12060 : 13000;
  return SUCCESS;
}

API int cuDeviceGetCount(int* count) {
  *count = 1;
  return is_initialized ? SUCCESS : NOT_INITIALIZED;
}

API int cuDeviceGet(int* device, int index) {
  if (index != 0) return INVALID_DEVICE;
  *device = 0;
  return SUCCESS;
}

API int cuDeviceGetName(char* name, int size, int) {
  snprintf(name, (size_t)size, "CUDA emulation (no GPU)");
  return SUCCESS;
}

API int cuDeviceGetUuid_v2(void* uuid, int) {
  memset(uuid, 0xe5, 16);
  return SUCCESS;
}

API int cuDeviceGetPCIBusId(char* id, int size, int) {
  snprintf(id, (size_t)size, "0000:E5:00.0");
  return SUCCESS;
}

API int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = (size_t)1 << 31;
  return SUCCESS;
}

API int cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 1: *value = 1024; break;   // threads of a block
    case 2: case 3: *value = 1024; break;  // threads of a block in each direction
    case 4: *value = 64; break;
    case 5: *value = 0x7fffffff; break;    // blocks in each direction
    case 6: case 7: *value = 65535; break;
    case 8: *value = 48 << 10; break;      // bytes of shared memory of a block
    case 10: *value = 32; break;    // lanes of a warp
    case 16: *value = (int)(seeds().claims ? seeds().claims : seeds().units); break;  // multiprocessors
    case 17: *value = seeds().time_limit; break;  // kernel time limit
    case 18: *value = 0; break;     // integrated
    case 19: *value = 1; break;     // maps host memory
    case 75: *value = 9; break;     // compute capability
    case 76: *value = 0; break;
    case 99: *value = !seeds().no_registration; break;  // registers host memory
    default: *value = 0;
  }
  return SUCCESS;
}

API int cuDevicePrimaryCtxRetain(void** context, int) {
  if (!is_initialized) return NOT_INITIALIZED;
  *context = &the_context;
  return SUCCESS;
}

API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

// Takes what the context had: kernels are waited for, nothing is registered any more, and host memory that the driver
// had allocated is nobody's. Whoever still touches that finds out.
API int cuDevicePrimaryCtxReset_v2(int) {
  if (seeds().reset_fails) return sticky = LAUNCH_FAILED;
  generation++;
  wait_for_all();
  {
    std::lock_guard<std::mutex> lock(host_mutex);
    for (auto& [memory, bytes] : allocated) mprotect(memory, bytes, PROT_NONE);
    allocated.clear();
    registered.clear();
  }
  {
    std::lock_guard<std::mutex> lock(sizes_mutex);
    sizes.clear();
    in_use = 0;
  }
  sticky = SUCCESS;
  return seeds().reset_complains ? LAUNCH_FAILED : SUCCESS;
}

API int cuCtxSetCurrent(void* context) {
  current_context = context;
  return SUCCESS;
}

API int cuStreamCreate(void** stream, unsigned) {
  CHECK();
  Stream* made = new Stream;
  std::lock_guard<std::mutex> lock(streams_mutex);
  streams.insert(made);
  *stream = made;
  return SUCCESS;
}

API int cuStreamDestroy_v2(void* handle) {
  Stream* stream = (Stream*)handle;
  {
    std::lock_guard<std::mutex> lock(streams_mutex);
    streams.erase(stream);
  }
  // Work that is under way comes to its end first, and nobody waits for it.
  std::thread([stream] {
    stream->wait();
    {
      std::lock_guard<std::mutex> lock(stream->mutex);
      stream->is_over = true;
      stream->changed.notify_all();
    }
    if (stream->thread.joinable()) stream->thread.join();
    delete stream;
  }).detach();
  return SUCCESS;
}

API int cuStreamQuery(void* stream) {
  CHECK();
  if (!((Stream*)stream)->is_idle()) return NOT_READY;
  return sticky.load();
}

API int cuStreamSynchronize(void* stream) {
  CHECK();
  call.unlock();
  ((Stream*)stream)->wait();
  return sticky.load();
}

API int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  CHECK();
  *memory = mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*memory == MAP_FAILED) return OUT_OF_MEMORY;
  std::lock_guard<std::mutex> lock(host_mutex);
  allocated[(char*)*memory] = pages(bytes);
  return SUCCESS;
}

API int cuMemFreeHost(void* memory) {
  CHECK();
  wait_for_all();
  std::lock_guard<std::mutex> lock(host_mutex);
  auto found = allocated.find((char*)memory);
  if (found == allocated.end()) return INVALID_VALUE;
  munmap(memory, found->second);
  allocated.erase(found);
  return SUCCESS;
}

// Whole pages, as a real one may want them, and none twice.
API int cuMemHostRegister_v2(void* memory, size_t bytes, unsigned) {
  CHECK();
  if (!memory || bytes == 0 || (uintptr_t)memory % PAGE || bytes % PAGE) return INVALID_VALUE;
  std::lock_guard<std::mutex> lock(host_mutex);
  char* first = (char*)memory;
  for (size_t at = 0; at < bytes; at += PAGE) {
    if (has(registered, first + at) || has(allocated, first + at)) return ALREADY_REGISTERED;
  }
  registered[first] = bytes;
  return SUCCESS;
}

API int cuMemHostUnregister(void* memory) {
  CHECK();
  wait_for_all();
  std::lock_guard<std::mutex> lock(host_mutex);
  return registered.erase((char*)memory) ? SUCCESS : NOT_REGISTERED;
}

API int cuMemHostGetDevicePointer_v2(unsigned long long* device, void* memory, unsigned) {
  CHECK();
  std::lock_guard<std::mutex> lock(host_mutex);
  if (!has(registered, (char*)memory) && !has(allocated, (char*)memory)) return INVALID_VALUE;
  *device = (unsigned long long)memory;
  return SUCCESS;
}

API int cuMemAlloc_v2(unsigned long long* device, size_t bytes) {
  CHECK();
  if (in_use.load() + bytes > (size_t)seeds().memory << 20) return OUT_OF_MEMORY;
  void* memory = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);
  if (!memory) return OUT_OF_MEMORY;
  // Nobody may rely on what it holds.
  memset(memory, 0xcd, bytes < 65536 ? bytes : 65536);
  *device = (unsigned long long)memory;
  std::lock_guard<std::mutex> lock(sizes_mutex);
  sizes[*device] = bytes;
  in_use += bytes;
  return SUCCESS;
}

API int cuMemFree_v2(unsigned long long device) {
  CHECK();
  // As the real one may.
  wait_for_all();
  {
    std::lock_guard<std::mutex> lock(sizes_mutex);
    in_use -= sizes[device];
    sizes.erase(device);
  }
  free((void*)device);
  return SUCCESS;
}

API int cuMemsetD8Async(unsigned long long device, unsigned char value, size_t bytes, void* stream) {
  CHECK();
  ((Stream*)stream)->push([=] { memset((void*)device, value, bytes); });
  return SUCCESS;
}

API int cuMemcpyHtoDAsync_v2(unsigned long long device, const void* host, size_t bytes, void* stream) {
  CHECK();
  ((Stream*)stream)->push([=] { memcpy((void*)device, host, bytes); });
  return SUCCESS;
}

API int cuMemcpyDtoHAsync_v2(void* host, unsigned long long device, size_t bytes, void* stream) {
  CHECK();
  ((Stream*)stream)->push([=] { memcpy(host, (void*)device, bytes); });
  return SUCCESS;
}

API int cuModuleLoadData(void** module, const void* image) {
  CHECK();
  // As the real one may.
  wait_for_all();
  void* library = dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "emulated CUDA: %s\n", dlerror());
    return INVALID_IMAGE;
  }
  auto bind = (void (*)(const Emulation*))dlsym(library, "emulated_bind");
  if (!bind) return INVALID_IMAGE;
  bind(&emulation);
  *module = new Module{library};
  return SUCCESS;
}

API int cuModuleUnload(void* module) {
  CHECK();
  wait_for_all();
  dlclose(((Module*)module)->library);
  delete (Module*)module;
  return SUCCESS;
}

API int cuModuleGetFunction(void** function, void* module, const char* name) {
  CHECK();
  void* library = ((Module*)module)->library;
  void* run = dlsym(library, (std::string("emulated_") + name).c_str());
  auto size = (unsigned (*)())dlsym(library, (std::string("emulated_size_") + name).c_str());
  if (!run || !size) return NOT_FOUND;
  *function = new Function{(void (*)(void*))run, size(), strcmp(name, "rt_resident") == 0,
                           strcmp(name, "rt_ingress") == 0, false};
  return SUCCESS;
}

API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* count, void*, int threads, size_t shared) {
  CHECK();
  size_t most = UNIT.blocks;
  most = std::min<size_t>(most, UNIT.threads / (unsigned)threads);
  if (shared > 0) most = std::min(most, UNIT.shared / shared);
  *count = (int)most;
  return SUCCESS;
}

API int cuFuncLoad(void*) { return SUCCESS; }

API int cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                       unsigned block_y, unsigned block_z, unsigned shared, void* stream, void** parameters, void**) {
  CHECK();
  const unsigned lanes = block_x * block_y * block_z;
  if (!grid_x || !grid_y || !grid_z || grid_y > 65535 || grid_z > 65535 || !lanes || lanes > 1024) return INVALID_VALUE;
  Function* function = (Function*)handle;
  // As the real one may, to have local memory for it.
  if (!function->has_run) wait_for_all();
  function->has_run = true;
  std::vector<char> copy((char*)parameters[0], (char*)parameters[0] + function->size);
  const unsigned number = ++launches, born = generation.load();
  void (*run)(void*) = function->run;
  const bool is_resident = function->is_resident;
  const bool exits = number == seeds().exit || (seeds().ingress_exits && function->is_ingress);
  std::function<void()> work = [=]() mutable {
    if (number == seeds().hang) {
      while (born == generation.load()) usleep(1000);
      return;
    }
    const Part part = {1, lanes, shared};
    size_t unit = 0;
    while (!units().enter(part, unit)) {
      if (born != generation.load()) return;
      usleep(50);
    }
    Launch own;
    own.generation = born;
    own.number = number;
    own.exits = exits;
    own.random = number * 2654435761u + 1u;
    launch = &own;
    emulated::run_grid({grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared,
                       is_resident ? emulated::STACK : emulated::SMALL_STACK, [&] { run(copy.data()); });
    launch = nullptr;
    units().leave(part, unit);
    // It has said that it is over, and is not quite.
    if (seeds().one_queue) usleep(5000);
  };
  Stream* to = (Stream*)stream;
  if (to->recording) {
    to->recording->work.push_back(std::move(work));
  } else {
    // What has to wait for work of its own stream waits in the queue, for what is before it there.
    if (seeds().one_queue && !to->is_idle()) to->push(after_all(to));
    to->push(std::move(work));
  }
  return SUCCESS;
}

// When a stream came to it.
struct Event {
  std::atomic<long long> ns{-1};
};

API int cuEventCreate(void** event, unsigned) {
  CHECK();
  *event = new Event;
  return SUCCESS;
}

API int cuEventDestroy_v2(void* event) {
  delete (Event*)event;
  return SUCCESS;
}

API int cuEventRecord(void* event, void* stream) {
  CHECK();
  if (seeds().one_queue) ((Stream*)stream)->push(after_all((Stream*)stream));
  ((Stream*)stream)->push([event] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    ((Event*)event)->ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  });
  return SUCCESS;
}

API int cuEventElapsedTime_v2(float* milliseconds, void* begun, void* ended) {
  CHECK();
  const long long from = ((Event*)begun)->ns, to = ((Event*)ended)->ns;
  if (from < 0 || to < 0) return INVALID_VALUE;
  *milliseconds = (float)(to - from) * 1e-6f;
  return SUCCESS;
}

API int cuStreamBeginCapture_v2(void* stream, int) {
  CHECK();
  ((Stream*)stream)->recording = new Graph;
  return SUCCESS;
}

API int cuStreamEndCapture(void* stream, void** graph) {
  CHECK();
  *graph = ((Stream*)stream)->recording;
  ((Stream*)stream)->recording = nullptr;
  return *graph ? SUCCESS : INVALID_VALUE;
}

API int cuGraphInstantiateWithFlags(void** ready, void* graph, unsigned long long) {
  CHECK();
  *ready = graph;
  return SUCCESS;
}

API int cuGraphLaunch(void* graph, void* stream) {
  CHECK();
  for (const std::function<void()>& work : ((Graph*)graph)->work) ((Stream*)stream)->push(work);
  return SUCCESS;
}

API int cuGetErrorName(int error, const char** name) {
  *name = error == SUCCESS         ? "CUDA_SUCCESS"
          : error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == NO_DEVICE     ? "CUDA_ERROR_NO_DEVICE"
          : error == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED"
                                   : "CUDA_ERROR";
  return SUCCESS;
}

API int cuGetErrorString(int error, const char** text) {
  *text = error == LAUNCH_FAILED ? "unspecified launch failure (emulated)" : "an emulated error";
  return SUCCESS;
}
