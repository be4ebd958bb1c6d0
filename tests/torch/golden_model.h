// The tiny models of tests/torch/golden, with what transformers computes with them.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <string>

#include "runtime/checkpoint/safetensors.h"

namespace deepscale::testing {

struct GoldenModel {
  explicit GoldenModel(const std::string& name)
      : folder(std::filesystem::path(DEEPSCALE_GOLDEN_MODELS) / name),
        expected(folder / "expected.safetensors") {}

  at::Tensor read(const std::string& name) const {
    const SafetensorsReader::Entry& entry = expected.entries().at(name);
    at::Tensor tensor = at::empty(entry.shape, entry.dtype == "I64" ? at::kLong : at::kFloat);
    expected.read(name, tensor.data_ptr());
    return tensor;
  }

  std::filesystem::path folder;
  SafetensorsReader expected;
};

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace deepscale::testing
