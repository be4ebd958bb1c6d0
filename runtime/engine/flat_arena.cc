#include "runtime/engine/flat_arena.h"

#include <torch/torch.h>

namespace deepscale {

FlatArena::FlatArena(const PartitionPlan& plan, const at::TensorOptions& options)
    : plan_(plan), storage_(at::zeros({plan.arena_numel()}, options)) {}

FlatArena::FlatArena(const PartitionPlan& plan, const at::TensorOptions& options,
                     std::shared_ptr<std::byte> memory)
    : plan_(plan),
      storage_(at::from_blob(
          memory.get(), {plan.arena_numel()}, [memory](void*) {}, options)) {}

std::size_t FlatArena::arena_bytes(const PartitionPlan& plan, const at::TensorOptions& options) {
  return static_cast<std::size_t>(plan.arena_numel()) * options.dtype().itemsize();
}

at::Tensor FlatArena::parameter(int index) const {
  const auto& parameter = plan_.parameters()[static_cast<std::size_t>(index)];
  return storage_.narrow(0, parameter.offset, parameter.numel);
}

at::Tensor FlatArena::bucket(int index) const {
  const auto& bucket = plan_.buckets()[static_cast<std::size_t>(index)];
  return storage_.narrow(0, bucket.offset, bucket.numel);
}

at::Tensor FlatArena::slice(int bucket, int rank) const {
  return storage_.narrow(0, plan_.slice_offset(bucket, rank), plan_.slice_numel(bucket));
}

}  // namespace deepscale
