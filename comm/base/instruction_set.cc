#include "comm/base/instruction_set.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <cpuid.h>
#endif

namespace deepscale {
namespace {

#if defined(__GNUC__) && defined(__x86_64__)
// Not among what all compilers let us ask by name. The instruction is slow in a virtual machine.
bool ask_for_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool has_avx2() {
  static const bool has_f16c = ask_for_f16c();
  return __builtin_cpu_supports("avx2") && has_f16c;
}
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool has_avx2() {
  return false;
}
bool has_avx512() {
  return false;
}
#endif

}  // namespace

InstructionSet available(InstructionSet wanted) {
  const bool best = wanted == InstructionSet::kBest;
  if ((best || wanted == InstructionSet::kAvx512) && has_avx512()) return InstructionSet::kAvx512;
  if ((best || wanted == InstructionSet::kAvx2) && has_avx2()) return InstructionSet::kAvx2;
  return InstructionSet::kPortable;
}

}  // namespace deepscale
