// What the main() of every training example does.
#pragma once

#include <functional>

#include "comm/base/environment.h"
#include "comm/base/world_layout.h"

namespace examples {

// Runs it; an exception becomes one sentence on standard error and the exit code 1.
int run_program(const char* name, const std::function<void()>& program);

// Ranks on one machine share its cores, unless OMP_NUM_THREADS says how; LibTorch reads that by itself.
void share_cores(const deepscale::WorldLayout& layout, const deepscale::Environment& environment);

}  // namespace examples
