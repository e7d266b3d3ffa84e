#include "isa.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#endif

namespace livemind {

#define LM_DECLARE(tier)       \
  namespace tier {             \
  extern const Kernels kTable; \
  }
LM_DECLARE(scalar)
#if LM_HAVE_AVX2
LM_DECLARE(avx2)
#endif
#if LM_HAVE_AVX512
LM_DECLARE(avx512)
#endif
#if LM_HAVE_AVX512_DL
LM_DECLARE(avx512_dl)
#endif
#if LM_HAVE_NEON
LM_DECLARE(neon)
#endif
#if LM_HAVE_NEON_DOT
LM_DECLARE(neon_dot)
#endif
#if LM_HAVE_NEON_MM
LM_DECLARE(neon_mm)
#endif
#undef LM_DECLARE

namespace {

// Every processor feature that a tier's compiler flags allow the compiler to use.
#if LM_HAVE_AVX2 || LM_HAVE_AVX512 || LM_HAVE_AVX512_DL
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasAvx512Dl() {
  return HasAvx512() && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

#if LM_HAVE_NEON_DOT || LM_HAVE_NEON_MM
// Bits of the kernel's hwcap words: arch/arm64/include/uapi/asm/hwcap.h.
#if defined(__linux__)
bool HasDot() {
  constexpr unsigned long kFphp = 1UL << 9, kAsimdhp = 1UL << 10, kAsimddp = 1UL << 20;
  constexpr unsigned long kAtomics = 1UL << 8, kRdm = 1UL << 12, kCrc = 1UL << 7;
  constexpr unsigned long kAll = kFphp | kAsimdhp | kAsimddp | kAtomics | kRdm | kCrc;
  return (getauxval(AT_HWCAP) & kAll) == kAll;
}
bool HasMm() {
  constexpr unsigned long kI8mm = 1UL << 13, kBf16 = 1UL << 14;
  return HasDot() && (getauxval(AT_HWCAP2) & (kI8mm | kBf16)) == (kI8mm | kBf16);
}
#else
bool HasDot() { return false; }
bool HasMm() { return false; }
#endif
#endif

}  // namespace

const Tier* Tiers(std::size_t* count) {
  static const Tier tiers[] = {
      {&scalar::kTable, true},
#if LM_HAVE_NEON
      {&neon::kTable, true},
#endif
#if LM_HAVE_NEON_DOT
      {&neon_dot::kTable, HasDot()},
#endif
#if LM_HAVE_NEON_MM
      {&neon_mm::kTable, HasMm()},
#endif
#if LM_HAVE_AVX2
      {&avx2::kTable, HasAvx2()},
#endif
#if LM_HAVE_AVX512
      {&avx512::kTable, HasAvx512()},
#endif
#if LM_HAVE_AVX512_DL
      {&avx512_dl::kTable, HasAvx512Dl()},
#endif
  };
  *count = sizeof(tiers) / sizeof(tiers[0]);
  return tiers;
}

const Kernels& BestTier() {
  std::size_t count;
  const Tier* tiers = Tiers(&count);
  while (!tiers[count - 1].supported) --count;
  return *tiers[count - 1].kernels;
}

bool TilesAllowed() {
#if defined(__x86_64__) && defined(__linux__)
  static const bool has = [] {
    unsigned a, b, c, d;
    constexpr unsigned kTile = 1U << 24, kInt8 = 1U << 25;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTile) && (d & kInt8);
  }();
  static std::atomic<bool> allowed{false};
  if (!has || allowed.load(std::memory_order_relaxed)) return has;
  constexpr int kGetPermissions = 0x1022;  // arch/x86/include/uapi/asm/prctl.h
  constexpr unsigned long kTileData = 1UL << 18;
  unsigned long mask = 0;
  if (syscall(SYS_arch_prctl, kGetPermissions, &mask) == 0 && (mask & kTileData)) allowed = true;
  return allowed;  // nobody takes it back
#else
  return false;
#endif
}

}  // namespace livemind
