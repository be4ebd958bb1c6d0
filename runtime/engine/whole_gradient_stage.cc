#include "runtime/engine/whole_gradient_stage.h"

#include <torch/torch.h>

namespace deepscale {

WholeGradientStage::WholeGradientStage(const ModelTensors& tensors, TensorCollectives& collectives,
                                       const ZeroStageOptions& options)
    : FlatStage(tensors, collectives, options),
      gradient_arena_(plan_, at::TensorOptions(options.gradient_dtype).device(options.device)),
      has_gradient_(tensors.trainable.size(), false) {}

at::Tensor WholeGradientStage::gradient_place(int parameter) {
  has_gradient_[static_cast<std::size_t>(parameter)] = true;
  return gradient_arena_.parameter(parameter);
}

bool WholeGradientStage::adds_to_earlier_gradient(int parameter) const {
  return has_gradient_[static_cast<std::size_t>(parameter)];
}

void WholeGradientStage::reduce_bucket(int bucket) {
  if (at_boundary()) in_flight_.push_back(start_reduction(bucket));
}

void WholeGradientStage::finish_reductions() {
  for (TensorWork& work : in_flight_) work.wait();
  in_flight_.clear();
}

std::vector<at::Tensor> WholeGradientStage::owned_gradients() {
  std::vector<at::Tensor> gradients;
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    gradients.push_back(gradient_arena_.slice(bucket, collectives_.rank()));
  }
  return gradients;
}

void WholeGradientStage::clear_gradients() {
  has_gradient_.assign(has_gradient_.size(), false);
}

DataParallelStage::DataParallelStage(const ModelTensors& tensors, TensorCollectives& collectives,
                                     const ZeroStageOptions& options)
    : WholeGradientStage(tensors, collectives, options) {
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    segments_[static_cast<std::size_t>(bucket)].gradient = gradient_arena_.bucket(bucket);
  }
}

TensorWork DataParallelStage::start_reduction(int bucket) {
  return collectives_.all_reduce(gradient_arena_.bucket(bucket), ReduceOp::kAverage);
}

OptimizerPartitionStage::OptimizerPartitionStage(const ModelTensors& tensors, TensorCollectives& collectives,
                                                 const ZeroStageOptions& options)
    : WholeGradientStage(tensors, collectives, options) {
  for (int bucket = 0; bucket < bucket_count(); ++bucket) {
    segments_[static_cast<std::size_t>(bucket)].gradient = gradient_arena_.slice(bucket, collectives_.rank());
  }
}

TensorWork OptimizerPartitionStage::start_reduction(int bucket) {
  return collectives_.reduce_scatter(gradient_arena_.bucket(bucket),
                                     gradient_arena_.slice(bucket, collectives_.rank()), ReduceOp::kAverage);
}

}  // namespace deepscale
