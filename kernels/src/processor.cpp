// Which of the kernels this processor gets.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#ifdef GPT2ONNX_ARM
#include <sys/auxv.h>
#endif
#ifdef GPT2ONNX_X86
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels.h"
#include "ort.h"

namespace gpt2onnx {

#ifndef GPT2ONNX_X86
const Kernels* avx2_kernels() { return nullptr; }
const Kernels* avx_vnni_kernels() { return nullptr; }
const Kernels* avx512_vnni_kernels() { return nullptr; }
const Kernels* amx_kernels() { return nullptr; }
#endif
#ifndef GPT2ONNX_ARM
const Kernels* neon_kernels() { return nullptr; }
const Kernels* neon_i8mm_kernels() { return nullptr; }
#endif

namespace {

struct Choice {
  const Kernels* kernels;  // null where this build has none
  bool runs;               // on this processor
};

#ifdef GPT2ONNX_X86
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
bool has_avx_vnni() { return has_avx2() && __builtin_cpu_supports("avxvnni"); }
bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
// Linux gives a process AMX's tiles when it asks for them (asm/prctl.h), from 5.16 on.
constexpr int ASK_FOR = 0x1023, TILES = 18;
bool has_amx() {
  return has_avx512_vnni() && __builtin_cpu_supports("amx-int8") &&
         syscall(SYS_arch_prctl, ASK_FOR, TILES) == 0;
}
#else
bool has_avx2() { return false; }
bool has_avx_vnni() { return false; }
bool has_avx512_vnni() { return false; }
bool has_amx() { return false; }
#endif
#ifdef GPT2ONNX_ARM
bool has_neon() { return getauxval(AT_HWCAP) & (1ul << 20); }  // HWCAP_ASIMDDP: sdot
bool has_neon_i8mm() {                                         // HWCAP2_I8MM: smmla
  return has_neon() && (getauxval(AT_HWCAP2) & (1ul << 13));
}
#else
bool has_neon() { return false; }
bool has_neon_i8mm() { return false; }
#endif

// The best one first.
const Choice (&choices())[7] {
  static const Choice all[] = {
      {amx_kernels(), has_amx()},
      {avx512_vnni_kernels(), has_avx512_vnni()},
      {avx_vnni_kernels(), has_avx_vnni()},
      {avx2_kernels(), has_avx2()},
      {neon_i8mm_kernels(), has_neon_i8mm()},
      {neon_kernels(), has_neon()},
      {scalar_kernels(), true},
  };
  return all;
}

}  // namespace

const Kernels& kernels() {
  const char* wanted = std::getenv("GPT2ONNX_KERNELS");
  std::string known;
  for (const auto& [kernels, runs] : choices()) {
    if (!kernels || !runs) continue;
    if (!wanted || !*wanted || !std::strcmp(wanted, kernels->name)) return *kernels;
    known += (known.empty() ? "" : ", ") + std::string(kernels->name);
  }
  fail("GPT2ONNX_KERNELS is " + std::string(wanted) + ", this processor runs " + known);
}

}  // namespace gpt2onnx

// The names of the kernels that run here, the best one first, after each other in `names`.
extern "C" __attribute__((visibility("default"))) const char* gpt2onnx_kernels_here() {
  static const std::string names = [] {
    std::string all;
    for (const auto& [kernels, runs] : gpt2onnx::choices())
      if (kernels && runs) all += (all.empty() ? "" : " ") + std::string(kernels->name);
    return all;
  }();
  return names.c_str();
}

// So many rounds of multiply-adds and nothing else, of rounded numbers or of floats; how many those
// are, or -1 where GPT2ONNX_KERNELS names no kernels that run here.
extern "C" __attribute__((visibility("default"))) int64_t gpt2onnx_multiply(int rounded,
                                                                             int64_t rounds) {
  try {
    return gpt2onnx::kernels().multiply(rounded != 0, rounds);
  } catch (...) {
    return -1;
  }
}

// Two threads, side 0 and side 1, take turns so many times: each waits for what the other writes.
extern "C" __attribute__((visibility("default"))) void gpt2onnx_take_turns(int side,
                                                                             int64_t rounds) {
  alignas(128) static std::atomic<int> turn{0};
  for (int64_t round = 0; round < rounds; ++round) {
    while (turn.load(std::memory_order_acquire) != side) {}
    turn.store(1 - side, std::memory_order_release);
  }
}
