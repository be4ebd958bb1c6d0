#include "runtime/engine/gradient_partition_stage.h"

#include <torch/torch.h>

#include <algorithm>

namespace deepscale {

namespace {
// One bucket travels while the next one fills; more would only add memory.
constexpr std::size_t kMaxReductionsInFlight = 1;

// A gradient's memory belongs to the parameter's grad() and to the flat view of it. A third owner is another
// gradient that autograd still reads: both terms of a sum have the same.
bool is_read_by_others(const at::Tensor& flat_gradient) {
  constexpr std::size_t kOwners = 2;
  return flat_gradient.storage().use_count() > kOwners;
}
}  // namespace

GradientPartitionStage::GradientPartitionStage(const ModelTensors& tensors, TensorCollectives& collectives,
                                               const ZeroStageOptions& options)
    : FlatStage(tensors, collectives, options),
      tensor_options_(at::TensorOptions(options.gradient_dtype).device(options.device)),
      staging_(plan_.buckets().size()) {
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    if (!is_one_parameter(bucket))
      pooled_numel_ = std::max(pooled_numel_, plan_.buckets()[static_cast<std::size_t>(bucket)].numel);
  }
}

std::int64_t GradientPartitionStage::gradient_bytes() const {
  std::int64_t bytes = 0;
  for (const Segment& segment : segments_)
    if (segment.gradient.defined()) bytes += static_cast<std::int64_t>(segment.gradient.nbytes());
  return bytes;
}

void GradientPartitionStage::clear_gradients() {
  // At stage 3 parameters come and go in the same heap: memory that changes hands there too costs more time
  // than it saves.
  if (options_.stage != 3)
    for (Segment& segment : segments_) segment.gradient.reset();
  is_first_micro_batch_ = true;
}

bool GradientPartitionStage::is_one_parameter(int bucket) const {
  const PartitionPlan::Bucket& shape = plan_.buckets()[static_cast<std::size_t>(bucket)];
  return shape.parameter_count == 1 && shape.padding == 0;
}

GradientPartitionStage::Staging GradientPartitionStage::take_staging(int bucket) {
  const PartitionPlan::Bucket& shape = plan_.buckets()[static_cast<std::size_t>(bucket)];
  if (is_one_parameter(bucket)) return {at::empty({shape.numel}, tensor_options_)};
  if (free_staging_.empty()) free_staging_.push_back(at::empty({pooled_numel_}, tensor_options_));
  Staging staging{std::move(free_staging_.back()), /*is_pooled=*/true};
  free_staging_.pop_back();
  staging.values.narrow(0, shape.numel - shape.padding, shape.padding).zero_();
  return staging;
}

bool GradientPartitionStage::adopts_gradient(int parameter, const at::Tensor& gradient) {
  const int bucket = plan_.parameters()[static_cast<std::size_t>(parameter)].bucket;
  const bool fits = is_one_parameter(bucket) && gradient.dtype() == tensor_options_.dtype() &&
                    gradient.device() == tensor_options_.device();
  if (!fits || is_read_by_others(gradient)) return false;
  staging_[static_cast<std::size_t>(bucket)] = {gradient};
  return true;
}

at::Tensor GradientPartitionStage::gradient_place(int parameter) {
  const PartitionPlan::Parameter& placed = plan_.parameters()[static_cast<std::size_t>(parameter)];
  Staging& staging = staging_[static_cast<std::size_t>(placed.bucket)];
  if (!staging.values.defined()) staging = take_staging(placed.bucket);
  const std::int64_t bucket_offset = plan_.buckets()[static_cast<std::size_t>(placed.bucket)].offset;
  return staging.values.narrow(0, placed.offset - bucket_offset, placed.numel);
}

void GradientPartitionStage::reduce_bucket(int bucket) {
  const auto index = static_cast<std::size_t>(bucket);
  Staging staging = std::exchange(staging_[index], {});
  const at::Tensor whole = staging.values.narrow(0, 0, plan_.buckets()[index].numel);
  const std::int64_t slice = plan_.slice_numel(bucket);
  // Later micro batches reduce within the staging buffer and are added from there.
  if (!segments_[index].gradient.defined()) segments_[index].gradient = at::empty({slice}, tensor_options_);
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
  if (oldest.staging.is_pooled) free_staging_.push_back(std::move(oldest.staging.values));
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
