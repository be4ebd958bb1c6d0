#include "runtime/engine/step_memory.h"

namespace deepscale {

// Windows would have every page committed before its first use, and its heap keeps large blocks by itself.
StepMemory::StepMemory() = default;
StepMemory::~StepMemory() = default;
void StepMemory::end_step() {}

}  // namespace deepscale
