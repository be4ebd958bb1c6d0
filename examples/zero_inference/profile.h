// Where the time of generation went, layer by layer.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/inference/decoder.h"

namespace zero_inference {

class Profile {
 public:
  // Adds the layers of the step that has just ended.
  void add(std::span<const deepscale::LayerTiming> timings);
  // A line for each layer and one for all: mean milliseconds of transfer, wait and compute, and the rate of
  // transfer.
  std::string table() const;
  // One line: the rate at which steps after the first, which works on whole prompts, got through the weights
  // of all layers, beside that of reading them only.
  std::string compare(const deepscale::LayerReading& bound) const;
  // For chrome://tracing and Perfetto. Error(kSystem) with the file.
  void write_trace(const std::filesystem::path& path, int rank) const;

 private:
  std::vector<std::vector<deepscale::LayerTiming>> steps_;
};

}  // namespace zero_inference
