// ZeRO's stages with their tensors on a GPU and NCCL between the ranks, of which one GPU allows only one:
// streams and events are as in a large world, and the gradients are those of plain autograd.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/nccl/nccl_communicator.h"
#include "runtime/engine/device.h"
#include "runtime/engine/gradient_partition_stage.h"
#include "runtime/engine/whole_gradient_stage.h"
#include "tests/cuda/need_gpu.h"
#include "tests/torch/patchwork.h"

namespace deepscale::testing {
namespace {

const c10::Device kGpu(c10::kCUDA, 0);

std::unique_ptr<ZeroStage> make_stage(const ModelTensors& tensors, TensorCollectives& collectives,
                                      int stage) {
  const ZeroStageOptions options{
      .stage = stage,
      .device = kGpu,
      .bucket_numel = 400,  // several buckets
      .gather_limits = {.max_live_numel = 1500, .max_reuse_distance = 600, .prefetch_numel = 300},
      .persistence_threshold = 40};
  const torch::NoGradGuard no_grad;
  for (const at::Tensor& frozen : tensors.frozen) move_in_place(frozen, kGpu, at::kFloat);
  if (stage == 0) return std::make_unique<DataParallelStage>(tensors, collectives, options);
  if (stage == 1) return std::make_unique<OptimizerPartitionStage>(tensors, collectives, options);
  return std::make_unique<GradientPartitionStage>(tensors, collectives, options);
}

double squared_length(const std::vector<at::Tensor>& tensors) {
  double sum = 0.0;
  for (const at::Tensor& tensor : tensors) sum += tensor.to(at::kDouble).square().sum().item<double>();
  return sum;
}

double plain_gradient_length(int step) {
  Patchwork model = make_patchwork();
  model->to(kGpu);
  const TokenBatch batch = global_batch(step);
  token_loss(model(batch.tokens.to(kGpu)), batch.targets.to(kGpu)).backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : trainable_parameters(*model)) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return squared_length(gradients);
}

class NcclStage : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Stages, NcclStage, ::testing::Values(0, 1, 2, 3));

TEST_P(NcclStage, GradientsAreThoseOfPlainAutograd) {
  DEEPSCALE_NEED_GPU();
  choose_device(WorldLayout());
  Patchwork model = make_patchwork();
  const ModelTensors tensors = ModelTensors::of(*model);
  TensorCollectives collectives(make_nccl_communicator(make_single_communicator(), nullptr, {}));
  const auto stage = make_stage(tensors, collectives, GetParam());
  for (int step = 0; step < 5; ++step) {
    const TokenBatch batch = global_batch(step);
    const torch::Tensor loss = token_loss(model(batch.tokens.to(kGpu)), batch.targets.to(kGpu));
    stage->begin_backward(true);
    loss.backward();
    stage->rethrow_failure();
    stage->end_backward();
    const double expected = plain_gradient_length(step);
    EXPECT_NEAR(squared_length(stage->owned_gradients()), expected, 1e-3 * expected) << "step " << step;
    stage->publish_parameters();
    stage->clear_gradients();
  }
}

}  // namespace
}  // namespace deepscale::testing
