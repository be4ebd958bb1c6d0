#include "comm/base/instruction_set.h"

namespace deepscale {
namespace {

#if defined(__GNUC__) && defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2");
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
