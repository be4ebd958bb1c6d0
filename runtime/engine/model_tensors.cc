#include "runtime/engine/model_tensors.h"

#include <ATen/MemoryOverlap.h>
#include <fmt/core.h>
#include <torch/torch.h>

#include <unordered_set>

#include "comm/base/error.h"
#include "runtime/engine/sharded_tensor.h"

namespace deepscale {

ModelTensors ModelTensors::of(torch::nn::Module& module) {
  ModelTensors tensors;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& entry : module.named_parameters()) {
    const at::Tensor& parameter = entry.value();
    if (!parameter.defined() || !seen.insert(parameter.unsafeGetTensorImpl()).second) continue;
    if (!parameter.is_leaf()) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("parameter '{}' is the result of a computation, "
                                                           "not a leaf; register it with requires_grad after "
                                                           "computing it under torch::NoGradGuard",
                                                           entry.key()));
    }
    if (parameter.requires_grad()) {
      tensors.trainable.push_back(parameter);
      tensors.trainable_names.push_back(entry.key());
    } else {
      tensors.frozen.push_back(parameter);
      tensors.frozen_names.push_back(entry.key());
    }
  }
  for (const auto& entry : module.named_buffers()) {
    const at::Tensor& buffer = entry.value();
    if (!buffer.defined() || !seen.insert(buffer.unsafeGetTensorImpl()).second) continue;
    tensors.buffers.push_back(buffer);
    tensors.buffer_names.push_back(entry.key());
  }
  return tensors;
}

std::int64_t ModelTensors::numel() const {
  std::int64_t sum = 0;
  for (const auto* parameters : {&trainable, &frozen}) {
    for (const at::Tensor& parameter : *parameters) sum += parameter.numel();
  }
  return sum;
}

std::vector<std::int64_t> numels_of(const std::vector<at::Tensor>& tensors) {
  std::vector<std::int64_t> numels;
  for (const at::Tensor& tensor : tensors) numels.push_back(tensor.numel());
  return numels;
}

void broadcast_values(const at::Tensor& tensor, TensorCollectives& collectives, int root) {
  const at::Tensor values = tensor.detach().contiguous();
  collectives.broadcast(values, root).wait();
  if (!values.is_alias_of(tensor)) tensor.detach().copy_(values);
}

void take_fixed(const std::vector<at::Tensor>& tensors, TensorCollectives& collectives,
                const at::TensorOptions& options) {
  for (const at::Tensor& tensor : tensors) {
    if (shard_home_of(tensor)) at::Tensor(tensor).set_data(take_whole(tensor));
    move_in_place(tensor, options.device(), c10::typeMetaToScalarType(options.dtype()));
    // One whose elements share memory cannot be written to.
    if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes)
      at::Tensor(tensor).set_data(tensor.detach().contiguous());
    broadcast_values(tensor, collectives, 0);
  }
}

void move_in_place(const at::Tensor& tensor, c10::Device device, at::ScalarType floating_dtype) {
  const at::ScalarType dtype = tensor.is_floating_point() ? floating_dtype : tensor.scalar_type();
  if (tensor.device() == device && tensor.scalar_type() == dtype) return;
  at::Tensor handle = tensor;
  handle.set_data(tensor.detach().to(device, dtype));
}

}  // namespace deepscale
