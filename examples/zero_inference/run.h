// Generation as run_model.py does it, on this rank's share of the prompts.
#pragma once

#include "examples/zero_inference/options.h"

namespace zero_inference {

void run(const Options& options);

}  // namespace zero_inference
