// Where the trainable parameters live on this rank: whole in an arena (stages 0 to 2), or sharded and
// gathered at the operators that use them (stage 3, sharded_parameters.h). Parameters and buckets are those
// of one PartitionPlan.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/engine/flat_arena.h"
#include "runtime/engine/parameter_slice.h"
#include "runtime/engine/tensor_collectives.h"
#include "runtime/zero/partition_plan.h"

namespace deepscale {

class ParameterStorage {
 public:
  virtual ~ParameterStorage() = default;

  // What this rank's optimizer updates of the bucket, and where it begins in the plan's arena.
  struct Owned {
    ParameterSlice values;
    std::int64_t offset;
  };
  virtual Owned owned(int bucket) const = 0;

  // Moves a parameter in; `values` are its fp32 values, the same on every rank. Once each, then
  // finish_taking().
  virtual void take(int index, at::Tensor parameter, const at::Tensor& values) = 0;
  // `on_written`: the program wrote to a parameter by itself, and owned(bucket) gets these values next, flat.
  using OnWritten = std::function<void(int bucket, const at::Tensor& values)>;
  virtual void finish_taking(OnWritten on_written) { (void)on_written; }

  // Before this rank changes what it owns: waits until no other rank reads it.
  virtual void begin_update() {}
  // The optimizer has changed what this rank owns: the model shall read the new values.
  virtual void publish() = 0;
  // Rethrows what went wrong while an operator ran, where it could not be thrown.
  virtual void rethrow_failure() {}

  virtual std::int64_t bytes() const = 0;

  // This rank's part of a frozen parameter.
  struct FrozenShard {
    std::string name;
    std::int64_t offset;  // in the parameter, in elements
    ParameterSlice values;
  };
  // Not of those that every rank has whole.
  virtual std::vector<FrozenShard> frozen_shards() const { return {}; }
};

// The part of a parameter that lies in `owned`; numel 0: none.
struct OwnedPart {
  std::int64_t parameter_offset;
  std::int64_t owned_offset;
  std::int64_t numel;
};
OwnedPart owned_part(const PartitionPlan::Parameter& parameter, const ParameterStorage::Owned& owned);
// Copies that part of a parameter's flat `values`.
void copy_owned_part(const PartitionPlan::Parameter& parameter, const at::Tensor& values,
                     const ParameterStorage::Owned& owned);

// In an arena that all ranks hold whole. With kSlice the optimizer of each rank updates its slice of every
// bucket, and publish() all-gathers them. With kSliceOfOne there is one arena for the ranks, in memory that
// all of them map, and publish() is a barrier; so is begin_update(), since a slower rank may still read.
class WholeParameters final : public ParameterStorage {
 public:
  enum class Ownership { kWhole, kSlice, kSliceOfOne };

  // `plan` must outlive it.
  WholeParameters(const PartitionPlan& plan, const at::TensorOptions& options, Ownership ownership,
                  TensorCollectives& collectives);
  Owned owned(int bucket) const override;
  void take(int index, at::Tensor parameter, const at::Tensor& values) override;
  void finish_taking(OnWritten on_written) override;
  void begin_update() override;
  void publish() override;
  std::int64_t bytes() const override { return arena_.bytes(); }

 private:
  bool is_one_for_all() const { return ownership_ == Ownership::kSliceOfOne; }

  const PartitionPlan& plan_;
  FlatArena arena_;
  const Ownership ownership_;
  TensorCollectives& collectives_;
};

}  // namespace deepscale
