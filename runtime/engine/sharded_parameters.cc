#include "runtime/engine/sharded_parameters.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>

#include "runtime/engine/model_tensors.h"
#include "runtime/zero/module_groups.h"

namespace deepscale {

ParameterGroups partition_groups(const std::vector<std::string>& names,
                                 const std::vector<std::int64_t>& numels,
                                 std::int64_t persistence_threshold) {
  std::vector<int> large;
  std::vector<int> persistent;
  for (int i = 0; i < static_cast<int>(numels.size()); ++i) {
    (numels[static_cast<std::size_t>(i)] < persistence_threshold ? persistent : large).push_back(i);
  }
  const std::int64_t total = std::accumulate(numels.begin(), numels.end(), std::int64_t{0});
  ParameterGroups result;
  result.groups = group_by_module(in_order(names, large), in_order(numels, large), default_unit_numel(total));
  // Backward produces gradients in about the reverse order of registration.
  std::reverse(large.begin(), large.end());
  std::reverse(result.groups.begin(), result.groups.end());
  result.order = std::move(large);
  for (const int index : persistent) {
    result.order.push_back(index);
    result.groups.push_back(-1);
  }
  return result;
}

ShardedParameters::ShardedParameters(const PartitionPlan& plan, TensorCollectives& collectives,
                                     Options options)
    : plan_(plan),
      collectives_(collectives),
      options_(std::move(options)),
      shard_(at::zeros({plan.shard_numel()}, options_.tensors)),
      gatherer_(collectives, options_.limits) {}

at::Tensor ShardedParameters::slice(const PartitionPlan& plan, const at::Tensor& shard, int bucket) const {
  return shard.narrow(0, plan.buckets()[static_cast<std::size_t>(bucket)].shard_offset,
                      plan.slice_numel(bucket));
}

ParameterStorage::Owned ShardedParameters::owned(int bucket) const {
  return {slice(plan_, shard_, bucket), plan_.slice_offset(bucket, collectives_.rank())};
}

void ShardedParameters::take(int index, at::Tensor parameter, const at::Tensor& values) {
  const PartitionPlan::Parameter& placed = plan_.parameters()[static_cast<std::size_t>(index)];
  copy_owned_part(placed, values, owned(placed.bucket));
  // At once, so that the model is never there twice.
  parameter.set_data(tensor_without_memory(parameter.sizes(), options_.tensors));
  parameters_.push_back(std::move(parameter));
}

void ShardedParameters::take_frozen() {
  const ParameterGroups layout =
      partition_groups(options_.frozen_names, numels_of(options_.frozen), options_.persistence_threshold);
  const std::vector<at::Tensor> frozen = in_order(options_.frozen, layout.order);
  frozen_plan_ =
      PartitionPlan(numels_of(frozen), {.world_size = collectives_.size(), .groups = layout.groups});
  frozen_shard_ = at::zeros({frozen_plan_.shard_numel()}, options_.tensors);
  for (std::size_t i = 0; i < frozen.size(); ++i) {
    const PartitionPlan::Parameter& placed = frozen_plan_.parameters()[i];
    copy_owned_part(placed, frozen[i].detach().reshape({-1}),
                    {slice(frozen_plan_, frozen_shard_, placed.bucket),
                     frozen_plan_.slice_offset(placed.bucket, collectives_.rank())});
    at::Tensor(frozen[i]).set_data(tensor_without_memory(frozen[i].sizes(), options_.tensors));
  }
  for (int bucket = 0; bucket < static_cast<int>(frozen_plan_.buckets().size()); ++bucket) {
    add_unit(frozen_plan_, frozen_shard_, bucket, frozen, nullptr);
  }
}

void ShardedParameters::finish_taking(std::function<void(int bucket)> on_written) {
  for (int bucket = 0; bucket < static_cast<int>(plan_.buckets().size()); ++bucket) {
    add_unit(plan_, shard_, bucket, parameters_, [on_written, bucket] { on_written(bucket); });
  }
  take_frozen();
  gatherer_.start();
}

void ShardedParameters::add_unit(const PartitionPlan& plan, const at::Tensor& shard, int bucket,
                                 const std::vector<at::Tensor>& parameters,
                                 std::function<void()> on_written) {
  const PartitionPlan::Bucket& placed = plan.buckets()[static_cast<std::size_t>(bucket)];
  ParameterGatherer::UnitOptions unit;
  unit.shard = slice(plan, shard, bucket);
  unit.is_persistent = true;
  for (int i = placed.first_parameter; i < placed.first_parameter + placed.parameter_count; ++i) {
    const PartitionPlan::Parameter& parameter = plan.parameters()[static_cast<std::size_t>(i)];
    unit.members.push_back({parameters[static_cast<std::size_t>(i)], parameter.offset - placed.offset});
    if (parameter.numel >= options_.persistence_threshold) unit.is_persistent = false;
  }
  unit.on_written = std::move(on_written);
  gatherer_.add_unit(std::move(unit));
}

std::int64_t ShardedParameters::bytes() const {
  return static_cast<std::int64_t>(shard_.nbytes()) + gatherer_.gathered_bytes();
}

}  // namespace deepscale
