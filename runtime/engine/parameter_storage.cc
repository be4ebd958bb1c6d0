#include "runtime/engine/parameter_storage.h"

#include <torch/torch.h>

#include <algorithm>

namespace deepscale {

OwnedPart owned_part(const PartitionPlan::Parameter& parameter, const ParameterStorage::Owned& owned) {
  const std::int64_t begin = std::max(owned.offset, parameter.offset);
  const std::int64_t end = std::min(owned.offset + owned.values.numel(), parameter.offset + parameter.numel);
  if (begin >= end) return {0, 0, 0};
  return {begin - parameter.offset, begin - owned.offset, end - begin};
}

void copy_owned_part(const PartitionPlan::Parameter& parameter, const at::Tensor& values,
                     const ParameterStorage::Owned& owned) {
  const OwnedPart part = owned_part(parameter, owned);
  if (part.numel == 0) return;
  owned.values.part(part.owned_offset, part.numel).write(values.narrow(0, part.parameter_offset, part.numel));
}

namespace {

FlatArena make_arena(const PartitionPlan& plan, const at::TensorOptions& options,
                     WholeParameters::Ownership ownership, TensorCollectives& collectives) {
  if (ownership != WholeParameters::Ownership::kSliceOfOne) return FlatArena(plan, options);
  return FlatArena(plan, options,
                   collectives.communicator().allocate_common(FlatArena::arena_bytes(plan, options)));
}

}  // namespace

WholeParameters::WholeParameters(const PartitionPlan& plan, const at::TensorOptions& options,
                                 Ownership ownership, TensorCollectives& collectives)
    : plan_(plan),
      arena_(make_arena(plan, options, ownership, collectives)),
      ownership_(ownership),
      collectives_(collectives) {}

ParameterStorage::Owned WholeParameters::owned(int bucket) const {
  if (ownership_ == Ownership::kWhole) {
    return {arena_.bucket(bucket), plan_.buckets()[static_cast<std::size_t>(bucket)].offset};
  }
  return {arena_.slice(bucket, collectives_.rank()), plan_.slice_offset(bucket, collectives_.rank())};
}

void WholeParameters::take(int index, at::Tensor parameter, const at::Tensor& values) {
  const at::Tensor home = arena_.parameter(index);
  if (!is_one_for_all() || collectives_.rank() == 0) home.copy_(values);
  parameter.set_data(home.view(parameter.sizes()));
}

void WholeParameters::finish_taking(OnWritten) {
  if (is_one_for_all()) collectives_.communicator().barrier().wait();
}

void WholeParameters::begin_update() {
  if (is_one_for_all()) collectives_.communicator().barrier().wait();
}

void WholeParameters::publish() {
  if (ownership_ == Ownership::kWhole) return;
  if (is_one_for_all()) return collectives_.communicator().barrier().wait();
  std::vector<TensorWork> works;
  for (int bucket = 0; bucket < static_cast<int>(plan_.buckets().size()); ++bucket) {
    works.push_back(
        collectives_.all_gather(arena_.slice(bucket, collectives_.rank()), arena_.bucket(bucket)));
  }
  for (TensorWork& work : works) work.wait();
}

}  // namespace deepscale
