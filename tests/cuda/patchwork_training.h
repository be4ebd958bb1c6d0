// Trains the patchwork model with an Engine on whatever device that has.
#pragma once

#include <vector>

#include "runtime/engine/engine.h"
#include "tests/torch/patchwork.h"

namespace deepscale::testing {

// Adam with clipping, small buckets; at stage 3 little of the model is there at a time.
Config patchwork_config(int stage, DType dtype);

// The loss of every step over the global batch, which the ranks share. Collective.
std::vector<double> train_patchwork(Patchwork model, const Config& config, InitializeOptions options,
                                    int steps);

}  // namespace deepscale::testing
