// Tensors that have memory only while an operator uses them, in an unmodified model.
//
// Such a tensor keeps its identity and sizes; its storage belongs to a ShardOwner, which is told before an
// operator reads it and after. A RecordFunction callback of ATen sees every operator, in forward and in
// backward, and finds the tensors among its inputs by their storage, so views and tied weights work. View
// operators need no memory. Reading such a tensor without an operator (data_ptr) throws while it has none.
//
// Threads: operators may run on any thread.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepscale {

// Keeps the shards of tensors, by unit: what gets its memory together. A callback of ATen cannot throw, so an
// owner keeps its failure for later.
class ShardOwner {
 public:
  virtual ~ShardOwner() = default;
  virtual void begin_use(int unit) = 0;
  virtual void end_use(int unit, bool was_written) = 0;
  // Memory until as many calls of unpin(); what operators do meanwhile is not the owner's business.
  virtual void pin(int unit) = 0;
  virtual void unpin(int unit, bool was_written) = 0;
  // The tensors of the unit got memory of their own.
  virtual void forget(int unit) { (void)unit; }
  // What went wrong so far, in a use too, which cannot throw: operators have read zeros since.
  virtual void rethrow_failure() = 0;
};

struct ShardHome {
  ShardOwner* owner;
  int unit;
};

// A contiguous tensor with storage of the right size that has no memory yet.
at::Tensor tensor_without_memory(at::IntArrayRef sizes, const at::TensorOptions& options);

// Gives the tensor's storage its memory, or takes it away (null). `home` must outlive the storage or the next
// call; null: nobody's any more.
void set_shard_memory(const at::Tensor& tensor, void* memory, const ShardHome* home);

// Of such a tensor or of a view of it; else null.
const ShardHome* shard_home_of(const at::Tensor& tensor);

// Operators ask from now on.
void observe_operators();

// A copy with memory of its own; the owner lets go of its shard. The caller replaces the tensor's data.
at::Tensor take_whole(const at::Tensor& tensor);

}  // namespace deepscale
