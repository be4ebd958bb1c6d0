// A model of random weights in the shape of a config.json, for measuring without the real ones.
#pragma once

#include <cstdint>
#include <filesystem>

#include "runtime/pretrained/model_config.h"

namespace deepscale {

// Writes `directory`/model.safetensors with bf16 weights of the scale that training starts from, one tensor
// in memory at a time. Error(kSystem) with the file for a full disk.
void write_dummy_weights(const ModelConfig& config, const std::filesystem::path& directory,
                         std::uint64_t seed);

}  // namespace deepscale
