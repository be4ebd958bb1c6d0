// Tensors from and to safetensors files. Internal to runtime/models.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/pretrained/weight_files.h"

namespace deepscale {

// The file's memory as a tensor, which keeps the file mapped. Error(kUnsupported) for a type that is no
// floating-point one.
at::Tensor tensor_of(const WeightView& view, const std::string& name);

// Gives a parameter the values of the file's tensor; its type, too, unless `dtype` says another.
// Error(kInvalidArgument) where the shapes differ, naming the file.
void set_values(at::Tensor parameter, const WeightView& view, const std::string& name,
                std::optional<at::ScalarType> dtype = {});

struct NamedTensor {
  std::string name;
  at::Tensor like;                     // type and shape
  std::function<at::Tensor()> values;  // read by all ranks, one tensor after the other
};

// Complete or not there: written beside it, then renamed. Who does not write takes part in reading all the
// same.
void write_weights(const std::vector<NamedTensor>& tensors, const std::filesystem::path& path, bool writes);

}  // namespace deepscale
