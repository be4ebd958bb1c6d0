#include "runtime/engine/gradient_partition_stage.h"

#include <torch/torch.h>

#include <algorithm>

namespace deepscale {

namespace {
// One bucket travels while the next one fills; more would only add memory.
constexpr std::size_t kMaxReductionsInFlight = 2;
}  // namespace

GradientPartitionStage::GradientPartitionStage(const ModelTensors& tensors, TensorCollectives& collectives,
                                               const ZeroStageOptions& options)
    : FlatStage(tensors, collectives, options),
      shard_(
          at::zeros({plan_.shard_numel()}, at::TensorOptions(options.gradient_dtype).device(options.device))),
      staging_(plan_.buckets().size()) {
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    const auto index = static_cast<std::size_t>(bucket);
    segments_[index].gradient =
        shard_.narrow(0, plan_.buckets()[index].shard_offset, plan_.slice_numel(bucket));
  }
}

at::Tensor GradientPartitionStage::take_staging(int bucket) {
  const PartitionPlan::Bucket& shape = plan_.buckets()[static_cast<std::size_t>(bucket)];
  if (free_staging_.empty()) {
    std::int64_t largest = 0;
    for (const auto& other : plan_.buckets()) largest = std::max(largest, other.numel);
    free_staging_.push_back(at::empty({largest}, shard_.options()));
  }
  at::Tensor buffer = std::move(free_staging_.back());
  free_staging_.pop_back();
  buffer.narrow(0, shape.numel - shape.padding, shape.padding).zero_();
  return buffer;
}

at::Tensor GradientPartitionStage::gradient_place(int parameter) {
  const PartitionPlan::Parameter& placed = plan_.parameters()[static_cast<std::size_t>(parameter)];
  at::Tensor& staging = staging_[static_cast<std::size_t>(placed.bucket)];
  if (!staging.defined()) staging = take_staging(placed.bucket);
  const std::int64_t bucket_offset = plan_.buckets()[static_cast<std::size_t>(placed.bucket)].offset;
  return staging.narrow(0, placed.offset - bucket_offset, placed.numel);
}

void GradientPartitionStage::reduce_bucket(int bucket) {
  const auto index = static_cast<std::size_t>(bucket);
  at::Tensor staging = std::move(staging_[index]);
  staging_[index].reset();
  const at::Tensor whole = staging.narrow(0, 0, plan_.buckets()[index].numel);
  const std::int64_t slice = plan_.slice_numel(bucket);
  // Later micro batches reduce within the staging buffer and are added from there.
  const at::Tensor reduced =
      is_first_micro_batch_ ? segments_[index].gradient : whole.narrow(0, collectives_.rank() * slice, slice);
  in_flight_.push_back({.work = collectives_.reduce_scatter(whole, reduced, ReduceOp::kAverage),
                        .staging = std::move(staging),
                        .reduced = reduced,
                        .bucket = bucket});
  while (in_flight_.size() > kMaxReductionsInFlight) finish_oldest_reduction();
}

void GradientPartitionStage::finish_oldest_reduction() {
  Reduction& oldest = in_flight_.front();
  oldest.work.wait();
  if (!is_first_micro_batch_)
    segments_[static_cast<std::size_t>(oldest.bucket)].gradient.add_(oldest.reduced);
  free_staging_.push_back(std::move(oldest.staging));
  in_flight_.pop_front();
}

void GradientPartitionStage::finish_reductions() {
  while (!in_flight_.empty()) finish_oldest_reduction();
  is_first_micro_batch_ = false;
}

std::vector<at::Tensor> GradientPartitionStage::owned_gradients() {
  std::vector<at::Tensor> gradients;
  for (const Segment& segment : segments_) gradients.push_back(segment.gradient);
  return gradients;
}

}  // namespace deepscale
