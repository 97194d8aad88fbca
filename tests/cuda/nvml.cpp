// A stand-in for libnvidia-ml, for tests: what a monitor asks for, of the one device that driver.cpp has.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10, GPU_IS_LOST = 15 };

char the_device;
unsigned asked = 0, reported = 0;

bool is_seeded(const char* seed) {
  const char* seeds = getenv("RINGWORK_EMULATION");
  return seeds && strstr(seeds, seed);
}

}  // namespace

API int nvmlInit_v2() { return SUCCESS; }
API int nvmlShutdown() { return SUCCESS; }
API const char* nvmlErrorString(int) { return "an emulated error"; }

API int nvmlSystemGetDriverVersion(char* version, unsigned size) {
  snprintf(version, size, "580.95.05");
  return SUCCESS;
}

API int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  if (strcmp(uuid, "GPU-e5e5e5e5-e5e5-e5e5-e5e5-e5e5e5e5e5e5") != 0) return NOT_FOUND;
  *device = &the_device;
  return SUCCESS;
}

// The device goes at its 20th sample, if it is to.
API int nvmlDeviceGetName(void*, char* name, unsigned size) {
  asked++;
  if (is_seeded("nvml-lost") && asked >= 20) return GPU_IS_LOST;
  snprintf(name, size, "NVML emulation (no GPU)");
  return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo_v2(void*, void* info) {
  struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
  } memory = {*(unsigned*)info, 1000, 100, 600, 300};
  memcpy(info, &memory, sizeof memory);
  return SUCCESS;
}

API int nvmlDeviceGetUtilizationRates(void*, unsigned* rates) {
  rates[0] = 99;
  rates[1] = 7;
  return SUCCESS;
}

API int nvmlDeviceGetTemperature(void*, int, unsigned* degrees) {
  *degrees = 41;
  return SUCCESS;
}

API int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  *milliwatts = 123456;
  return SUCCESS;
}

// What many devices do not tell.
API int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned*) { return NOT_SUPPORTED; }

API int nvmlDeviceGetClockInfo(void*, int clock, unsigned* megahertz) {
  *megahertz = clock == 1 ? 1980 : clock == 2 ? 3201 : 0;
  return SUCCESS;
}

API int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons) {
  *reasons = 1 | 4 | 64;  // idle, power cap, hardware heat
  return SUCCESS;
}

API int nvmlDeviceGetTotalEccErrors(void*, int kind, int, unsigned long long* count) {
  *count = kind == 0 ? 3 : 0;
  return SUCCESS;
}

API int nvmlEventSetCreate(void** events) {
  *events = &the_device;
  return SUCCESS;
}

API int nvmlEventSetFree(void*) { return SUCCESS; }

API int nvmlDeviceRegisterEvents(void*, unsigned long long kinds, void*) {
  return kinds == 8 && !is_seeded("nvml-no-events") ? SUCCESS : NOT_SUPPORTED;
}

// Two Xid errors, once the device has been asked some times.
API int nvmlEventSetWait_v2(void*, void* event, unsigned) {
  const unsigned xid = is_seeded("nvml-lost") ? 79 : is_seeded("nvml-xid") ? 31 : 0;
  if (xid == 0 || asked < 5 || reported == 2) return TIMEOUT;
  reported++;
  struct {
    void* device;
    unsigned long long kind, data;
    unsigned gpu_instance, compute_instance;
  } one = {&the_device, 8, xid, 0xffffffff, 0xffffffff};
  memcpy(event, &one, sizeof one);
  return SUCCESS;
}
