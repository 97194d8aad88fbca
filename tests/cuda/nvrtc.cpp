// A stand-in for libnvrtc, for tests: compiles a kernel's text with g++. Its image is the path of a shared library.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <regex>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#define API extern "C" __attribute__((visibility("default")))

namespace {

struct Program {
  std::string text, log, image;
};

std::string folder() {
  Dl_info own;
  dladdr((void*)&folder, &own);
  std::string path = own.dli_fname;
  return path.substr(0, path.rfind('/'));
}

std::string read(const std::string& path) {
  std::string text;
  if (FILE* file = fopen(path.c_str(), "rb")) {
    char part[4096];
    while (size_t count = fread(part, 1, sizeof part, file)) text.append(part, count);
    fclose(file);
  }
  return text;
}

bool write(const std::string& path, const std::string& text) {
  FILE* file = fopen(path.c_str(), "wb");
  if (!file) return false;
  bool good = fwrite(text.data(), 1, text.size(), file) == text.size();
  return fclose(file) == 0 && good;
}

// What the driver looks for: each kernel by its name, with the size of its one parameter.
std::string exports(const std::string& text) {
  const std::string visible = "__attribute__((visibility(\"default\"))) ";
  // A library that is loaded again is the same one, whose kernels may be running.
  const std::string bind =
      "if (__atomic_load_n(&emulation, __ATOMIC_ACQUIRE) != given)"
      " __atomic_store_n(&emulation, given, __ATOMIC_RELEASE);";
  std::string out = "extern \"C\" {\n" + visible + "void emulated_bind(const Emulation* given) { " + bind + " }\n";
  const std::regex kernel("__global__[^{};]*[ )]([A-Za-z_0-9]+)\\(([A-Za-z_0-9]+) [a-z]+\\)\\s*\\{");
  for (std::sregex_iterator found(text.begin(), text.end(), kernel), end; found != end; ++found) {
    const std::string name = (*found)[1], parameter = (*found)[2];
    out += visible + "void emulated_" + name + "(void* given) { " + name + "(*(" + parameter + "*)given); }\n";
    out += visible + "unsigned emulated_size_" + name + "() { return sizeof(" + parameter + "); }\n";
  }
  return out + "}\n";
}

unsigned long long hash(const std::string& text, unsigned long long state) {
  for (unsigned char byte : text) state = (state ^ byte) * 0x100000001b3ull;
  return state;
}

}  // namespace

API int nvrtcVersion(int* major, int* minor) {
  *major = 13;
  const char* seeds = getenv("RINGWORK_EMULATION");
  *minor = seeds && strstr(seeds, "nvrtc-13.1") ? 1 : 0;
  return 0;
}

API const char* nvrtcGetErrorString(int code) { return code ? "emulated NVRTC failed" : "no error"; }

API int nvrtcCreateProgram(Program** program, const char* text, const char*, int, const char* const*,
                           const char* const*) {
  *program = new Program{text, "", ""};
  return 0;
}

API int nvrtcDestroyProgram(Program** program) {
  delete *program;
  *program = nullptr;
  return 0;
}

API int nvrtcCompileProgram(Program* program, int, const char* const*) {
  const char* given = getenv("RINGWORK_EMULATION_CACHE");
  const char* extra = getenv("RINGWORK_EMULATION_FLAGS");
  std::string flags = extra ? extra : "";
  std::string cache = given ? given : folder() + "/cache";
  mkdir(cache.c_str(), 0700);
  std::string text = read(folder() + "/device.h") + "\n" + program->text + "\n" + exports(program->text);
  char name[40];
  snprintf(name, sizeof name, "/%016llx%016llx", hash(text + flags, 0xcbf29ce484222325ull),
           hash(flags + text, 0x9ae16a3b2f90404full));
  std::string base = cache + name, library = base + ".so";
  if (access(library.c_str(), R_OK) != 0) {
    // Others may be making the same: everybody works apart, and the last one renames over the others'.
    static int counter = 0;
    std::string own = base + "." + std::to_string(getpid()) + "." +
                      std::to_string(__atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
    if (!write(own + ".cpp", text)) return 6;
    std::string command = "g++ -std=c++17 -O1 -w -ffp-contract=off -fno-strict-aliasing -fwrapv -fPIC -fvisibility=hidden -shared '" + own +
                          ".cpp' -o '" + own + ".so' " + flags + " 2>'" + own + ".log'";
    int status = system(command.c_str());
    program->log = read(own + ".log");
    if (status == 0) {
      rename((own + ".so").c_str(), library.c_str());
      unlink((own + ".cpp").c_str());
    }
    unlink((own + ".log").c_str());
    if (status != 0) {
      program->log += "\n(the text is in " + own + ".cpp)";
      return 6;
    }
  }
  // For whoever wants to see what was compiled, and to compile it for a GPU.
  if (const char* sources = getenv("RINGWORK_EMULATION_SOURCES")) {
    mkdir(sources, 0700);
    if (!write(sources + std::string(name) + ".cu", program->text)) return 6;
  }
  program->image = library;
  return 0;
}

API int nvrtcGetProgramLogSize(Program* program, size_t* size) {
  *size = program->log.size() + 1;
  return 0;
}

API int nvrtcGetProgramLog(Program* program, char* log) {
  memcpy(log, program->log.c_str(), program->log.size() + 1);
  return 0;
}

API int nvrtcGetCUBINSize(Program* program, size_t* size) {
  *size = program->image.size() + 1;
  return 0;
}

API int nvrtcGetCUBIN(Program* program, char* image) {
  memcpy(image, program->image.c_str(), program->image.size() + 1);
  return 0;
}

API int nvrtcGetNumSupportedArchs(int* count) {
  *count = 1;
  return 0;
}

API int nvrtcGetSupportedArchs(int* archs) {
  *archs = 90;
  return 0;
}
