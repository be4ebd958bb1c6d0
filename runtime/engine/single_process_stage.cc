#include "runtime/engine/single_process_stage.h"

#include <torch/torch.h>

namespace deepscale {

SingleProcessStage::SingleProcessStage(const ModelTensors& tensors, const ZeroStageOptions& options)
    : parameters_(tensors.trainable), names_(tensors.trainable_names) {
  MasterWeights masters(options.masters);
  for (const at::Tensor& parameter : parameters_) {
    // Masters start from the full-precision values, not from their rounding to 16 bits.
    const at::Tensor values = parameter.detach().to(options.device, at::kFloat).contiguous();
    move_in_place(parameter, options.device, options.dtype);
    if (!parameter.is_contiguous()) at::Tensor(parameter).set_data(parameter.detach().contiguous());
    const at::Tensor read_by_model = parameter.detach();
    const at::Tensor master = masters.add_segment(read_by_model);
    const std::size_t segment = segments_.size();
    if (!masters.are_parameters(segment)) masters.write(segment, 0, values.view({-1}));
    segments_.push_back({.master = master,
                         .gradient = at::Tensor(),
                         .parameter = read_by_model,
                         .is_offloaded = masters.is_offloaded(segment)});
    if (options.gradient_dtype != options.dtype) {
      accumulators_.push_back(
          at::zeros_like(parameter.detach(), parameter.options().dtype(options.gradient_dtype)));
    }
  }
}

void SingleProcessStage::end_backward() {
  if (!has_accumulators()) return;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& gradient = parameters_[i].mutable_grad();
    if (gradient.defined()) accumulators_[i].add_(gradient);
    gradient.reset();
  }
}

at::Tensor SingleProcessStage::gradient_of(std::size_t index) {
  if (has_accumulators()) return accumulators_[index];
  at::Tensor& gradient = parameters_[index].mutable_grad();
  if (!gradient.defined()) gradient = at::zeros_like(segments_[index].parameter.tensor());
  if (gradient.is_sparse()) gradient = gradient.to_dense();
  if (!gradient.is_contiguous()) gradient = gradient.contiguous();
  return gradient;
}

const std::vector<Segment>& SingleProcessStage::segments() {
  for (std::size_t i = 0; i < segments_.size(); ++i) segments_[i].gradient = gradient_of(i);
  return segments_;
}

std::vector<SegmentPiece> SingleProcessStage::pieces() const {
  std::vector<SegmentPiece> pieces;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    pieces.push_back({.segment = i,
                      .segment_offset = 0,
                      .parameter = names_[i],
                      .parameter_offset = 0,
                      .numel = parameters_[i].numel()});
  }
  return pieces;
}

std::vector<at::Tensor> SingleProcessStage::owned_gradients() {
  std::vector<at::Tensor> gradients;
  for (std::size_t i = 0; i < parameters_.size(); ++i) gradients.push_back(gradient_of(i));
  return gradients;
}

void SingleProcessStage::clear_gradients() {
  for (at::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
  for (Segment& segment : segments_) segment.gradient.reset();
  for (at::Tensor& accumulator : accumulators_) accumulator.zero_();
}

std::int64_t SingleProcessStage::parameter_bytes() const {
  std::int64_t bytes = 0;
  for (const at::Tensor& parameter : parameters_) bytes += static_cast<std::int64_t>(parameter.nbytes());
  return bytes;
}

std::int64_t SingleProcessStage::gradient_bytes() const {
  std::int64_t bytes = 0;
  for (const at::Tensor& accumulator : accumulators_)
    bytes += static_cast<std::int64_t>(accumulator.nbytes());
  for (const at::Tensor& parameter : parameters_) {
    if (parameter.grad().defined()) bytes += static_cast<std::int64_t>(parameter.grad().nbytes());
  }
  return bytes;
}

}  // namespace deepscale
