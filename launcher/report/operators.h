// What the runtime of this build can do, and whether this machine can run it: the operators and the backends
// of the environment report. Opens libraries to see whether they are there; loads no LibTorch.
#pragma once

#include "launcher/report/environment_report.h"

namespace deepscale {

// "ops" and "backends". `has_gpu`: whether this machine has one.
EnvironmentReport operator_sections(bool has_gpu);

}  // namespace deepscale
