// One flat tensor that holds all parameters, or all gradients, in the order of a PartitionPlan. Pieces are
// views of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>

#include "runtime/zero/partition_plan.h"

namespace deepscale {

class FlatArena {
 public:
  // Zeroed, so that padding is zero. `plan` must outlive the arena.
  FlatArena(const PartitionPlan& plan, const at::TensorOptions& options);
  // In `memory` of the CPU, which holds arena_bytes() of zeros.
  FlatArena(const PartitionPlan& plan, const at::TensorOptions& options, std::shared_ptr<std::byte> memory);
  static std::size_t arena_bytes(const PartitionPlan& plan, const at::TensorOptions& options);

  at::Tensor parameter(int index) const;         // [numel]
  at::Tensor bucket(int index) const;            // [bucket numel], padding included
  at::Tensor slice(int bucket, int rank) const;  // [bucket numel / world size]
  std::int64_t bytes() const { return static_cast<std::int64_t>(storage_.nbytes()); }

 private:
  const PartitionPlan& plan_;
  at::Tensor storage_;
};

}  // namespace deepscale
