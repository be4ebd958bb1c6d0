#include "runtime/engine/flat_stage.h"

#include <torch/torch.h>

#include <algorithm>

namespace deepscale {

namespace {

std::vector<std::int64_t> numels_of(const std::vector<at::Tensor>& tensors) {
  std::vector<std::int64_t> numels;
  for (const at::Tensor& tensor : tensors) numels.push_back(tensor.numel());
  return numels;
}

}  // namespace

FlatStage::FlatStage(const ModelTensors& tensors, TensorCollectives& collectives,
                     const ZeroStageOptions& options)
    : collectives_(collectives),
      options_(options),
      plan_(numels_of({tensors.trainable.rbegin(), tensors.trainable.rend()}),
            {.world_size = collectives.size(), .bucket_numel = options.bucket_numel}),
      parameters_(tensors.trainable.rbegin(), tensors.trainable.rend()),
      parameter_arena_(plan_, at::TensorOptions(options.dtype).device(options.device)),
      tracker_(plan_) {}

void FlatStage::take_parameters(Ownership ownership) {
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    const at::Tensor owned = ownership == Ownership::kWhole
                                 ? parameter_arena_.bucket(bucket)
                                 : parameter_arena_.slice(bucket, collectives_.rank());
    const bool is_own_master = options_.dtype == at::kFloat;
    segments_.push_back(
        {.master = is_own_master ? owned : at::zeros_like(owned, owned.options().dtype(at::kFloat)),
         .gradient = at::Tensor(),
         .parameter = owned});
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& parameter = parameters_[i];
    // Masters start from the full-precision values, not from their rounding to 16 bits.
    const at::Tensor values = parameter.detach().to(options_.device, at::kFloat).contiguous().view({-1});
    collectives_.broadcast(values, 0).wait();
    const at::Tensor home = parameter_arena_.parameter(static_cast<int>(i));
    home.copy_(values);
    if (options_.dtype != at::kFloat) fill_master(static_cast<int>(i), values, ownership);
    parameter.set_data(home.view(parameter.sizes()));
  }
  hooks_ = std::make_unique<GradientHooks>(parameters_, [this](int index) { take_gradient(index); });
}

void FlatStage::fill_master(int parameter, const at::Tensor& values, Ownership ownership) {
  const PartitionPlan::Parameter& placed = plan_.parameters()[static_cast<std::size_t>(parameter)];
  const at::Tensor& master = segments_[static_cast<std::size_t>(placed.bucket)].master;
  const std::int64_t owned_begin = ownership == Ownership::kWhole
                                       ? plan_.buckets()[static_cast<std::size_t>(placed.bucket)].offset
                                       : plan_.slice_offset(placed.bucket, collectives_.rank());
  const std::int64_t begin = std::max(owned_begin, placed.offset);
  const std::int64_t end = std::min(owned_begin + master.numel(), placed.offset + placed.numel);
  if (begin >= end) return;
  master.narrow(0, begin - owned_begin, end - begin)
      .copy_(values.narrow(0, begin - placed.offset, end - begin));
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
  const at::Tensor place = gradient_place(parameter);
  if (adds) {
    place.add_(dense);
  } else {
    place.copy_(dense);
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

void FlatStage::all_gather_parameters() {
  std::vector<TensorWork> works;
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    works.push_back(collectives_.all_gather(parameter_arena_.slice(bucket, collectives_.rank()),
                                            parameter_arena_.bucket(bucket)));
  }
  for (TensorWork& work : works) work.wait();
}

}  // namespace deepscale
