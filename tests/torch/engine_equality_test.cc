// Training gives the same losses and parameters at every stage, world size and accumulation as one process
// that sees the whole global batch: a bare LibTorch loop in fp32, an Engine alone in bf16 and fp16.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/torch/patchwork.h"

namespace deepscale::testing {
namespace {

constexpr int kSteps = 50;
constexpr int kHalfSteps = 30;
constexpr double kClipping = 0.5;  // the gradients' norm is above it in some steps, below it in others
constexpr double kPeakLearningRate = 4e-3;
constexpr int kWarmupSteps = 10;
constexpr double kEpsilon = 1e-6;

Config training_config(int stage, std::int64_t accumulation) {
  Config config;
  config.gradient_accumulation_steps = accumulation;
  config.gradient_clipping = kClipping;
  config.zero.stage = stage;
  config.zero.reduce_bucket_size = 400;  // elements: several buckets, some of one parameter
  // Stage 3 keeps little of the model at a time, so all of it is gathered, released and prefetched.
  config.zero.param_persistence_threshold = 40;
  config.zero.prefetch_bucket_size = 300;
  config.zero.max_live_parameters = 1500;
  config.zero.max_reuse_distance = 600;
  config.optimizer = OptimizerConfig{.kind = OptimizerKind::kAdamW,
                                     .lr = kPeakLearningRate,
                                     .betas = {0.9, 0.98},
                                     .eps = kEpsilon,
                                     .weight_decay = 0.05};
  config.scheduler.kind = SchedulerKind::kWarmupLr;
  config.scheduler.warmup_num_steps = kWarmupSteps;
  config.scheduler.warmup_linear = true;
  return config;
}

double warmup_learning_rate(int step) {
  return kPeakLearningRate * std::clamp((step - 1.0) / kWarmupSteps, 0.0, 1.0);
}

const TrainingResult& bare_loop() {
  static const TrainingResult result =
      train_reference(kClipping, kSteps, [](std::vector<torch::Tensor>& parameters) -> Update {
        const auto optimizer = std::make_shared<torch::optim::AdamW>(
            parameters, torch::optim::AdamWOptions().betas({0.9, 0.98}).eps(kEpsilon).weight_decay(0.05));
        return [optimizer](std::vector<torch::Tensor>&, int step) {
          optimizer->param_groups().front().options().set_lr(warmup_learning_rate(step));
          optimizer->step();
        };
      });
  return result;
}

struct Case {
  int stage;
  int world_size;
  std::int64_t accumulation;
};

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return fmt::format("Stage{}World{}Accumulation{}", info.param.stage, info.param.world_size,
                     info.param.accumulation);
}

std::vector<Case> cases(const std::vector<int>& world_sizes) {
  std::vector<Case> all;
  for (const int stage : {0, 1, 2, 3}) {
    for (const int world_size : world_sizes) {
      for (const std::int64_t accumulation : {1, 3}) all.push_back({stage, world_size, accumulation});
    }
  }
  return all;
}

class Fp32Equality : public ::testing::TestWithParam<Case> {};

TEST_P(Fp32Equality, WithABareLoop) {
  const auto [stage, world_size, accumulation] = GetParam();
  const TrainingResult result = train_with_engines(world_size, training_config(stage, accumulation), kSteps);
  expect_equal_losses(result, bare_loop(), 1e-5);
  EXPECT_LT(bare_loop().losses.back(), 0.8 * bare_loop().losses.front()) << "there was nothing to learn";
  expect_equal_parameters(result, bare_loop(), 1e-4);
  expect_equal_ranks(result);
}

INSTANTIATE_TEST_SUITE_P(Engine, Fp32Equality, ::testing::ValuesIn(cases({1, 2, 3, 4})), name_of);

// Compares with an Engine alone, which sees the whole global batch in one micro batch. The results may differ
// by the rounding of the type, `epsilon`, which does not add up: masters are fp32.
class HalfEquality : public ::testing::TestWithParam<Case> {
 protected:
  static void expect_equality(const Config& alone, double epsilon) {
    const auto [stage, world_size, accumulation] = GetParam();
    Config config = alone;
    config.zero.stage = stage;
    config.gradient_accumulation_steps = accumulation;
    const TrainingResult expected = train_with_engines(1, alone, kHalfSteps);
    const TrainingResult result = train_with_engines(world_size, config, kHalfSteps);
    expect_equal_losses(result, expected, epsilon);
    expect_equal_models(result, expected, epsilon);
    expect_equal_ranks(result);
    EXPECT_EQ(result.loss_scales, expected.loss_scales);
  }
};
class Fp32GradientEquality : public HalfEquality {};

TEST_P(HalfEquality, Bf16) {
  Config config = training_config(0, 1);
  config.dtype = DType::kBFloat16;
  config.check_gradient_overflow = true;
  expect_equality(config, std::ldexp(1.0, -7));
}

TEST_P(HalfEquality, Fp16WithAGrowingLossScale) {
  Config config = training_config(0, 1);
  config.dtype = DType::kFloat16;
  config.check_gradient_overflow = true;
  config.loss_scale.initial_scale_power = 8;
  config.loss_scale.loss_scale_window = 12;
  expect_equality(config, std::ldexp(1.0, -10));
}

TEST_P(Fp32GradientEquality, Bf16) {
  Config config = training_config(0, 1);
  config.dtype = DType::kBFloat16;
  config.gradient_accumulation_dtype = DType::kFloat32;
  expect_equality(config, std::ldexp(1.0, -7));
}

INSTANTIATE_TEST_SUITE_P(Engine, HalfEquality, ::testing::ValuesIn(cases({1, 2, 3, 4})), name_of);
INSTANTIATE_TEST_SUITE_P(Engine, Fp32GradientEquality, ::testing::ValuesIn(cases({1, 2})), name_of);

}  // namespace
}  // namespace deepscale::testing
