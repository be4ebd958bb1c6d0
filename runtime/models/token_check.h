// What a model can be given. Internal to runtime/models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "runtime/pretrained/model_config.h"

namespace deepscale {

// Error(kInvalidArgument) where `past` tokens and those of input_ids [batch, sequence] are more than the
// model's positions, and, on the CPU, where one is outside its vocabulary.
void check_tokens(const ModelConfig& config, const at::Tensor& input_ids, std::int64_t past);

}  // namespace deepscale
