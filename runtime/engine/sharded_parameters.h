// Parameters of which every rank keeps its slices only (ZeRO stage 3), gathered where operators use them.
// Also holds the frozen parameters of the model (those of a floating dtype), sharded in the same way: a base
// model under adapters is most of the memory.
#pragma once

#include <string>
#include <vector>

#include "runtime/engine/parameter_gatherer.h"
#include "runtime/engine/parameter_storage.h"

namespace deepscale {

class ShardedParameters final : public ParameterStorage {
 public:
  struct Options {
    at::TensorOptions tensors;     // dtype and device
    ParameterPlacement placement;  // of slices that are not gathered all the time
    GatherLimits limits;
    std::int64_t persistence_threshold = 100'000;  // elements; a smaller parameter is gathered all the time
    std::vector<at::Tensor> frozen;                // get rank 0's values on every rank
    std::vector<std::string> frozen_names;
  };

  // `plan` is that of the trainable parameters and must outlive it; one made with partition_groups(), so that
  // a bucket has parameters above the threshold only, or below it only. Error(kSystem) where the placement's
  // file has no room.
  ShardedParameters(const PartitionPlan& plan, TensorCollectives& collectives, Options options);
  Owned owned(int bucket) const override;
  void take(int index, at::Tensor parameter, const at::Tensor& values) override;
  void finish_taking(OnWritten on_written) override;
  void publish() override { gatherer_.refresh(); }
  void rethrow_failure() override { gatherer_.rethrow_failure(); }
  std::int64_t bytes() const override;
  std::vector<FrozenShard> frozen_shards() const override;

 private:
  void take_frozen();
  // Parameters that are laid out by one plan.
  struct Group {
    const PartitionPlan& plan;
    std::vector<at::Tensor> parameters;  // in the order of the plan
    std::vector<ParameterSlice> slices;  // this rank's, of each bucket
  };
  bool is_persistent(const PartitionPlan& plan, int bucket) const;
  std::vector<ParameterSlice> make_slices(const PartitionPlan& plan);
  ParameterSlice make_slice_elsewhere(std::int64_t numel);
  Owned owned_of(const Group& group, int bucket) const;
  void add_unit(const Group& group, int bucket, std::function<void(const at::Tensor&)> on_written);

  TensorCollectives& collectives_;
  const Options options_;
  std::int64_t pinned_bytes_ = 0;
  Group trainable_;
  PartitionPlan frozen_plan_;
  Group frozen_;
  std::vector<std::string> frozen_names_;  // in the order of the plan
  ParameterGatherer gatherer_;
};

// How parameters are laid out for it: modules of at most an eighth of the model together, and those below the
// threshold apart from them. `order` are indices of `names`: what is persistent comes last.
struct ParameterGroups {
  std::vector<int> order;
  std::vector<int> groups;  // of each in that order
};
ParameterGroups partition_groups(const std::vector<std::string>& names,
                                 const std::vector<std::int64_t>& numels, std::int64_t persistence_threshold);

template <typename T>
std::vector<T> in_order(const std::vector<T>& values, const std::vector<int>& order) {
  std::vector<T> ordered;
  for (const int index : order) ordered.push_back(values[static_cast<std::size_t>(index)]);
  return ordered;
}

}  // namespace deepscale
