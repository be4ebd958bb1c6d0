#include "runtime/engine/sharded_parameters.h"

#include <torch/torch.h>

#include <algorithm>
#include <bit>
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
    : collectives_(collectives),
      options_(std::move(options)),
      trainable_{.plan = plan, .slices = make_slices(plan)},
      frozen_{.plan = frozen_plan_},
      gatherer_(collectives, options_.limits) {}

bool ShardedParameters::is_persistent(const PartitionPlan& plan, int bucket) const {
  const PartitionPlan::Bucket& placed = plan.buckets()[static_cast<std::size_t>(bucket)];
  const auto first = plan.parameters().begin() + placed.first_parameter;
  return std::all_of(first, first + placed.parameter_count, [&](const PartitionPlan::Parameter& parameter) {
    return parameter.numel < options_.persistence_threshold;
  });
}

std::vector<ParameterSlice> ShardedParameters::make_slices(const PartitionPlan& plan) {
  std::vector<ParameterSlice> slices;
  for (int bucket = 0; bucket < static_cast<int>(plan.buckets().size()); ++bucket) {
    const std::int64_t numel = plan.slice_numel(bucket);
    if (options_.placement.is_elsewhere() && !is_persistent(plan, bucket)) {
      slices.push_back(make_slice_elsewhere(numel));
    } else {
      slices.emplace_back(at::zeros({numel}, options_.tensors));
    }
  }
  return slices;
}

ParameterSlice ShardedParameters::make_slice_elsewhere(std::int64_t numel) {
  const at::ScalarType dtype = c10::typeMetaToScalarType(options_.tensors.dtype());
  if (options_.placement.file) return {options_.placement.file, numel, dtype};
  // LibTorch rounds pinned memory up to a power of two.
  const auto bytes =
      static_cast<std::int64_t>(std::bit_ceil(c10::elementSize(dtype) * static_cast<std::uint64_t>(numel)));
  const bool is_pinned = pinned_bytes_ + bytes <= options_.placement.pinned_bytes;
  if (is_pinned) pinned_bytes_ += bytes;
  return at::zeros({numel}, at::TensorOptions(dtype).pinned_memory(is_pinned));
}

ParameterStorage::Owned ShardedParameters::owned_of(const Group& group, int bucket) const {
  return {group.slices[static_cast<std::size_t>(bucket)],
          group.plan.slice_offset(bucket, collectives_.rank())};
}

ParameterStorage::Owned ShardedParameters::owned(int bucket) const {
  return owned_of(trainable_, bucket);
}

void ShardedParameters::take(int index, at::Tensor parameter, const at::Tensor& values) {
  const PartitionPlan::Parameter& placed = trainable_.plan.parameters()[static_cast<std::size_t>(index)];
  copy_owned_part(placed, values, owned(placed.bucket));
  // At once, so that the model is never there twice.
  parameter.set_data(tensor_without_memory(parameter.sizes(), options_.tensors));
  trainable_.parameters.push_back(std::move(parameter));
}

void ShardedParameters::take_frozen() {
  const ParameterGroups layout =
      partition_groups(options_.frozen_names, numels_of(options_.frozen), options_.persistence_threshold);
  frozen_.parameters = in_order(options_.frozen, layout.order);
  frozen_names_ = in_order(options_.frozen_names, layout.order);
  frozen_plan_ = PartitionPlan(numels_of(frozen_.parameters),
                               {.world_size = collectives_.size(), .groups = layout.groups});
  frozen_.slices = make_slices(frozen_plan_);
  for (std::size_t i = 0; i < frozen_.parameters.size(); ++i) {
    at::Tensor& parameter = frozen_.parameters[i];
    take_fixed({parameter}, collectives_, options_.tensors);
    const PartitionPlan::Parameter& placed = frozen_plan_.parameters()[i];
    copy_owned_part(placed, parameter.detach().reshape({-1}), owned_of(frozen_, placed.bucket));
    parameter.set_data(tensor_without_memory(parameter.sizes(), options_.tensors));
  }
}

void ShardedParameters::finish_taking(OnWritten on_written) {
  for (int bucket = 0; bucket < static_cast<int>(trainable_.slices.size()); ++bucket)
    add_unit(trainable_, bucket,
             [on_written, bucket](const at::Tensor& values) { on_written(bucket, values); });
  take_frozen();
  for (int bucket = 0; bucket < static_cast<int>(frozen_.slices.size()); ++bucket)
    add_unit(frozen_, bucket, nullptr);
  gatherer_.start();
}

void ShardedParameters::add_unit(const Group& group, int bucket,
                                 std::function<void(const at::Tensor&)> on_written) {
  const PartitionPlan::Bucket& placed = group.plan.buckets()[static_cast<std::size_t>(bucket)];
  ParameterGatherer::UnitOptions unit{.shard = group.slices[static_cast<std::size_t>(bucket)],
                                      .is_persistent = is_persistent(group.plan, bucket),
                                      .on_written = std::move(on_written)};
  for (int i = placed.first_parameter; i < placed.first_parameter + placed.parameter_count; ++i) {
    const auto index = static_cast<std::size_t>(i);
    unit.members.push_back({group.parameters[index], group.plan.parameters()[index].offset - placed.offset});
  }
  gatherer_.add_unit(std::move(unit));
}

std::vector<ParameterStorage::FrozenShard> ShardedParameters::frozen_shards() const {
  std::vector<FrozenShard> shards;
  for (std::size_t i = 0; i < frozen_names_.size(); ++i) {
    const PartitionPlan::Parameter& placed = frozen_plan_.parameters()[i];
    const Owned owned = owned_of(frozen_, placed.bucket);
    const OwnedPart part = owned_part(placed, owned);
    shards.push_back({.name = frozen_names_[i],
                      .offset = part.parameter_offset,
                      .values = owned.values.part(part.owned_offset, part.numel)});
  }
  return shards;
}

std::int64_t ShardedParameters::bytes() const {
  std::int64_t bytes = gatherer_.gathered_bytes();
  for (const Group* group : {&trainable_, &frozen_}) {
    for (const ParameterSlice& slice : group->slices) bytes += slice.bytes();
  }
  return options_.placement.file ? bytes + options_.placement.file->buffer_bytes() : bytes;
}

}  // namespace deepscale
