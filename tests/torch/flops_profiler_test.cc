// The FLOPS profiler: counts are those of the formulas, whatever kernels ATen takes; one step is profiled.
#include "runtime/engine/flops_profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "runtime/engine/engine.h"
#include "tests/temporary_folder.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

Config profiling_from(std::int64_t step) {
  Config config;
  config.flops_profiler = {.enabled = true, .profile_step = step};
  return config;
}

struct Flops {
  std::int64_t forward, backward;
};

std::int64_t sum_of(const FlopsProfiler::Counts& counts) {
  std::int64_t sum = 0;
  for (const auto& [name, count] : counts) sum += count.flops;
  return sum;
}

// Of the sum of what `forward` returns.
Flops flops_of(const std::function<torch::Tensor()>& forward) {
  const auto profiler = FlopsProfiler::make(profiling_from(0), true, 0, Logger());
  profiler->begin(Phase::kForward);
  const torch::Tensor result = forward();
  profiler->end(Phase::kForward);
  profiler->begin(Phase::kBackward);
  result.sum().backward();
  profiler->end(Phase::kBackward);
  return {sum_of(profiler->counts(Phase::kForward)), sum_of(profiler->counts(Phase::kBackward))};
}

torch::Tensor input_of(torch::IntArrayRef shape) {
  return torch::randn(shape, torch::requires_grad());
}

TEST(FlopsProfiler, CountsALinearLayer) {
  const torch::nn::Linear layer(24, 48);
  constexpr std::int64_t kProduct = 2 * 5 * 24 * 48;
  const Flops flops = flops_of([&] { return torch::nn::Linear(layer)(input_of({5, 24})); });
  EXPECT_EQ(flops.forward, kProduct);
  EXPECT_EQ(flops.backward, 2 * kProduct) << "for the input and the weight";
  const Flops first = flops_of([&] { return torch::nn::Linear(layer)(torch::randn({5, 24})); });
  EXPECT_EQ(first.backward, kProduct) << "an input that needs no gradient";
}

TEST(FlopsProfiler, CountsConvolutionsOnceWhateverTheyCall) {
  torch::nn::Conv2d layer(torch::nn::Conv2dOptions(3, 8, 3).stride(2).padding(1));
  constexpr std::int64_t kForward = 2 * (2 * 5 * 5) * 8 * (3 * 3 * 3);
  const Flops flops = flops_of([&] { return layer(input_of({2, 3, 9, 9})); });
  EXPECT_EQ(flops.forward, kForward);
  EXPECT_EQ(flops.backward, 2 * kForward);
  torch::nn::ConvTranspose1d transposed(torch::nn::ConvTranspose1dOptions(4, 6, 3).stride(2));
  constexpr std::int64_t kTransposed = 2 * (2 * 4 * 7) * (6 * 3);
  const Flops other = flops_of([&] { return transposed(input_of({2, 4, 7})); });
  EXPECT_EQ(other.forward, kTransposed);
  EXPECT_EQ(other.backward, 2 * kTransposed);
}

TEST(FlopsProfiler, CountsAttention) {
  constexpr std::int64_t kProduct = 2 * (2 * 3 * 5) * 7 * 8;
  const Flops flops = flops_of([&] {
    return torch::scaled_dot_product_attention(input_of({2, 3, 5, 8}), input_of({2, 3, 7, 8}),
                                               input_of({2, 3, 7, 8}));
  });
  EXPECT_EQ(flops.forward, 2 * kProduct);
  EXPECT_GE(flops.backward, 4 * kProduct);
  EXPECT_LE(flops.backward, 5 * kProduct) << "one more where it computes the weights again";
}

TEST(FlopsProfiler, CountsARecurrentLayer) {
  torch::nn::LSTM layer(6, 5);
  constexpr std::int64_t kForward = 2 * (4 * 2) * (4 * 5 * 6 + 4 * 5 * 5);
  const Flops flops = flops_of([&] { return std::get<0>(layer(input_of({4, 2, 6}))); });
  EXPECT_EQ(flops.forward, kForward);
  EXPECT_EQ(flops.backward, 2 * kForward);
}

TEST(FlopsProfiler, IsThereOnTheFirstRankAlone) {
  EXPECT_EQ(FlopsProfiler::make(profiling_from(1), false, 0, Logger()), nullptr);
  EXPECT_EQ(FlopsProfiler::make(Config(), true, 0, Logger()), nullptr);
}

TEST(FlopsProfiler, ReportsOneStepOfAnEngine) {
  const TemporaryFolder folder;
  Config config = profiling_from(1);
  config.micro_batch_size = 5;
  config.gradient_accumulation_steps = 2;
  config.optimizer = OptimizerConfig{.lr = 1e-3};
  config.flops_profiler.output_file = (folder.path() / "flops.txt").string();
  InitializeOptions options;
  options.device = torch::kCPU;
  const auto engine = initialize(torch::nn::Linear(24, 48), config, options);
  for (int micro_step = 0; micro_step < 6; ++micro_step) {
    if (micro_step == 3) {
      EXPECT_EQ(engine->flops_summary(), "") << "the second step is not over";
    }
    engine->backward(engine->forward(torch::ones({5, 24})).mean());
    engine->step();
  }
  EXPECT_THAT(engine->flops_summary(), HasSubstr("step 2 of rank 0, 1.20 K parameters"));
  EXPECT_THAT(engine->flops_summary(), HasSubstr("forward         23.04 KFLOP")) << "two micro batches";
  EXPECT_THAT(engine->flops_summary(), HasSubstr("aten::addmm"));
  std::ifstream file(config.flops_profiler.output_file);
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(written, engine->flops_summary());
}

TEST(FlopsProfiler, WithoutDetailsHasNoTable) {
  Config config = profiling_from(0);
  config.flops_profiler.detailed = false;
  const auto profiler = FlopsProfiler::make(config, true, 10, Logger());
  profiler->begin(Phase::kForward);
  torch::mm(torch::ones({2, 2}), torch::ones({2, 2}));
  profiler->end(Phase::kForward);
  profiler->end_of_step(1);
  EXPECT_THAT(profiler->report(), HasSubstr("16.00 FLOP"));
  EXPECT_THAT(profiler->report(), Not(HasSubstr("aten::mm")));
}

}  // namespace
}  // namespace deepscale::testing
