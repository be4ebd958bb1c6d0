#include "runtime/engine/flat_stage.h"

#include <torch/torch.h>

namespace deepscale {
namespace {

ParameterGroups lay_out(const ModelTensors& tensors, const ZeroStageOptions& options) {
  if (options.stage == 3) {
    return partition_groups(tensors.trainable_names, numels_of(tensors.trainable),
                            options.persistence_threshold);
  }
  ParameterGroups layout;
  for (int i = static_cast<int>(tensors.trainable.size()); i-- > 0;) layout.order.push_back(i);
  return layout;
}

std::unique_ptr<ParameterStorage> make_storage(const PartitionPlan& plan, const ModelTensors& tensors,
                                               TensorCollectives& collectives,
                                               const ZeroStageOptions& options) {
  const at::TensorOptions tensor_options = at::TensorOptions(options.dtype).device(options.device);
  if (options.stage == 3) {
    ShardedParameters::Options sharded = {.tensors = tensor_options,
                                          .placement = options.parameters,
                                          .limits = options.gather_limits,
                                          .persistence_threshold = options.persistence_threshold};
    for (std::size_t i = 0; i < tensors.frozen.size(); ++i) {
      if (!is_sharded_when_frozen(tensors.frozen[i])) continue;
      sharded.frozen.push_back(tensors.frozen[i]);
      sharded.frozen_names.push_back(tensors.frozen_names[i]);
    }
    return std::make_unique<ShardedParameters>(plan, collectives, std::move(sharded));
  }
  using enum WholeParameters::Ownership;
  const auto of_slices = options.shares_parameters ? kSliceOfOne : kSlice;
  const auto ownership = options.stage == 0 ? kWhole : of_slices;
  return std::make_unique<WholeParameters>(plan, tensor_options, ownership, collectives);
}

}  // namespace

FlatStage::FlatStage(const ModelTensors& tensors, TensorCollectives& collectives,
                     const ZeroStageOptions& options)
    : FlatStage(tensors, lay_out(tensors, options), collectives, options) {}

FlatStage::FlatStage(const ModelTensors& tensors, const ParameterGroups& layout,
                     TensorCollectives& collectives, const ZeroStageOptions& options)
    : collectives_(collectives),
      options_(options),
      plan_(
          numels_of(in_order(tensors.trainable, layout.order)),
          {.world_size = collectives.size(), .bucket_numel = options.bucket_numel, .groups = layout.groups}),
      parameters_(in_order(tensors.trainable, layout.order)),
      names_(in_order(tensors.trainable_names, layout.order)),
      storage_(make_storage(plan_, tensors, collectives, options)),
      masters_(options.masters),
      tracker_(plan_) {
  take_parameters();
  hooks_ = std::make_unique<GradientHooks>(parameters_, [this](int index) { take_gradient(index); });
}

void FlatStage::take_parameters() {
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    const ParameterSlice owned = storage_->owned(bucket).values;
    segments_.push_back(
        {.master = masters_.add_segment(owned), .gradient = at::Tensor(), .parameter = owned});
    segments_.back().is_offloaded = masters_.is_offloaded(segments_.size() - 1);
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    // Masters start from the full-precision values, not from their rounding to 16 bits.
    const at::Tensor& parameter = parameters_[i];
    const at::Tensor made = shard_home_of(parameter) ? take_whole(parameter) : parameter.detach();
    const at::Tensor values = made.to(options_.device, at::kFloat).contiguous().view({-1});
    collectives_.broadcast(values, 0).wait();
    storage_->take(static_cast<int>(i), parameters_[i], values);
    const PartitionPlan::Parameter& placed = plan_.parameters()[i];
    const ParameterStorage::Owned owned = storage_->owned(placed.bucket);
    const OwnedPart part = owned_part(placed, owned);
    if (part.numel == 0 || masters_.are_parameters(static_cast<std::size_t>(placed.bucket))) continue;
    masters_.write(static_cast<std::size_t>(placed.bucket), part.owned_offset,
                   values.narrow(0, part.parameter_offset, part.numel));
  }
  storage_->finish_taking([this](int bucket, const at::Tensor& values) { adopt_written(bucket, values); });
}

// Only what the program has changed: the masters of other parameters are finer than these values.
void FlatStage::adopt_written(int bucket, const at::Tensor& values) {
  const auto segment = static_cast<std::size_t>(bucket);
  const ParameterSlice& former = segments_[segment].parameter;
  if (masters_.are_parameters(segment)) return;
  for (const SegmentPiece& piece : pieces()) {
    if (piece.segment != segment) continue;
    const at::Tensor now = values.narrow(0, piece.segment_offset, piece.numel);
    const at::Tensor before = former.part(piece.segment_offset, piece.numel).read();
    if (!at::equal(before.to(now.device()), now)) masters_.write(segment, piece.segment_offset, now);
  }
}

std::vector<SegmentPiece> FlatStage::pieces() const {
  std::vector<SegmentPiece> pieces;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const PartitionPlan::Parameter& placed = plan_.parameters()[i];
    const OwnedPart part = owned_part(placed, storage_->owned(placed.bucket));
    if (part.numel == 0) continue;
    pieces.push_back({.segment = static_cast<std::size_t>(placed.bucket),
                      .segment_offset = part.owned_offset,
                      .parameter = names_[i],
                      .parameter_offset = part.parameter_offset,
                      .numel = part.numel});
  }
  return pieces;
}

void FlatStage::begin_backward(bool boundary) {
  at_boundary_ = boundary;
  tracker_.begin();
}

void FlatStage::take_gradient(int parameter) {
  at::NoGradGuard no_grad;
  at::Tensor& gradient = parameters_[static_cast<std::size_t>(parameter)].mutable_grad();
  const at::Tensor dense = (gradient.is_sparse() ? gradient.to_dense() : gradient).reshape({-1});
  // Asked first, since taking the place makes its gradient an earlier one.
  const bool adds = adds_to_earlier_gradient(parameter);
  if (adds) {
    gradient_place(parameter).add_(dense);
  } else if (!adopts_gradient(parameter, dense)) {
    gradient_place(parameter).copy_(dense);
  }
  gradient.reset();
  for (const int bucket : tracker_.mark_ready(parameter)) reduce_bucket(bucket);
}

void FlatStage::end_backward() {
  at::NoGradGuard no_grad;
  for (const int parameter : tracker_.missing()) {
    if (!adds_to_earlier_gradient(parameter)) gradient_place(parameter).zero_();
  }
  for (const int bucket : tracker_.flush()) reduce_bucket(bucket);
  finish_reductions();
}

}  // namespace deepscale
