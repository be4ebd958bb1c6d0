// The tensors of a module, each once, however many names it has.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "runtime/engine/tensor_collectives.h"

namespace deepscale {

struct ModelTensors {
  std::vector<at::Tensor>
      trainable;  // floating-point parameters that require a gradient, in order of registration
  std::vector<std::string> trainable_names;
  std::vector<at::Tensor> frozen;  // parameters that require none
  std::vector<std::string> frozen_names;
  std::vector<at::Tensor> buffers;
  std::vector<std::string> buffer_names;

  // Tied parameters (one tensor under several names) appear once. Error(kInvalidArgument) when a parameter is
  // not a leaf or is empty of storage, naming it.
  static ModelTensors of(torch::nn::Module& module);
  std::int64_t numel() const;  // of the parameters
};

// Stage 3 shards frozen parameters of a floating dtype; others (indices, masks) every rank has whole.
inline bool is_sharded_when_frozen(const at::Tensor& parameter) {
  return parameter.is_floating_point();
}

std::vector<std::int64_t> numels_of(const std::vector<at::Tensor>& tensors);

// Gives all ranks the values of `root`; of any strides. Collective; blocks.
void broadcast_values(const at::Tensor& tensor, TensorCollectives& collectives, int root);

// Takes over tensors that are not trained: moves them to device and floating dtype, gives all ranks rank 0's
// values. Collective.
void take_fixed(const std::vector<at::Tensor>& tensors, TensorCollectives& collectives,
                const at::TensorOptions& options);

// Moves a tensor that others hold by handle: storage, device and floating dtype change, identity does not.
void move_in_place(const at::Tensor& tensor, c10::Device device, at::ScalarType floating_dtype);

}  // namespace deepscale
