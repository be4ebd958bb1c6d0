// The ZeRO formula: the paper's own numbers, and what a PartitionPlan allocates.
#include "runtime/zero/memory_estimate.h"

#include <gtest/gtest.h>

#include <vector>

#include "comm/base/error.h"
#include "runtime/zero/partition_plan.h"

namespace deepscale {
namespace {

constexpr double kGigabyte = 1e9;

// Figure 1 of the paper: 7.5 billion parameters on 64 ranks, mixed precision, Adam.
TEST(MemoryEstimate, GivesThePapersNumbers) {
  const std::vector<double> gigabytes = {120.0, 31.4, 16.6, 1.88};
  for (int stage = 0; stage <= 3; ++stage) {
    const auto bytes = estimate_model_states(
        {.parameter_numel = 7'500'000'000, .stage = stage, .world_size = 64, .dtype = DType::kFloat16});
    EXPECT_NEAR(static_cast<double>(bytes.total()) / kGigabyte, gigabytes[static_cast<std::size_t>(stage)],
                0.05)
        << stage;
  }
}

TEST(MemoryEstimate, CountsEachPart) {
  const auto fp32 = estimate_model_states({.parameter_numel = 1001, .stage = 2, .world_size = 2});
  EXPECT_EQ(fp32.parameters, 4004);
  EXPECT_EQ(fp32.gradients, 501 * 4);
  EXPECT_EQ(fp32.optimizer_state, 501 * 8);
  const auto sgd = estimate_model_states(
      {.parameter_numel = 1000, .world_size = 2, .dtype = DType::kBFloat16, .moments = 0});
  EXPECT_EQ(sgd.parameters, 2000);
  EXPECT_EQ(sgd.gradients, 2000);
  EXPECT_EQ(sgd.optimizer_state, 4000);  // the master weights
  const auto accumulated_in_fp32 = estimate_model_states(
      {.parameter_numel = 1000, .dtype = DType::kBFloat16, .gradient_dtype = DType::kFloat32});
  EXPECT_EQ(accumulated_in_fp32.gradients, 4000);
  const auto stage1 = estimate_model_states(
      {.parameter_numel = 1000, .stage = 1, .world_size = 2, .accumulates_gradients = false});
  EXPECT_EQ(stage1.gradients, 2000) << "slices, as nothing is added to them";
  EXPECT_EQ(estimate_model_states({}).total(), 0);
}

// A plan of a real model's shapes pads so little that its arenas agree with the formula.
TEST(MemoryEstimate, AgreesWithAPartitionPlanWithinTwoPercent) {
  std::vector<std::int64_t> numels = {50272 * 768, 2050 * 768};  // OPT-125m
  for (int layer = 0; layer < 12; ++layer) {
    for (int i = 0; i < 4; ++i) numels.insert(numels.end(), {768 * 768, 768});
    numels.insert(numels.end(), {768 * 3072, 3072, 3072 * 768, 768, 768, 768, 768, 768});
  }
  std::int64_t total = 0;
  for (const std::int64_t numel : numels) total += numel;
  for (const int world_size : {1, 2, 3, 4, 7, 16}) {
    const PartitionPlan plan(numels, {.world_size = world_size, .bucket_numel = 5'000'000});
    const auto bytes =
        estimate_model_states({.parameter_numel = total, .stage = 1, .world_size = world_size});
    const auto allocated = static_cast<double>(plan.shard_numel() * 8);
    EXPECT_NEAR(allocated / static_cast<double>(bytes.optimizer_state), 1.0, 0.02) << world_size;
  }
}

TEST(MemoryEstimate, RefusesImpossibleArguments) {
  EXPECT_THROW(estimate_model_states({.parameter_numel = -1}), Error);
  EXPECT_THROW(estimate_model_states({.parameter_numel = INT64_MAX}), Error);
  EXPECT_THROW(estimate_model_states({.stage = 4}), Error);
  EXPECT_THROW(estimate_model_states({.world_size = 0}), Error);
  EXPECT_THROW(estimate_model_states({.dtype = DType::kInt64}), Error);
  EXPECT_THROW(estimate_model_states({.gradient_dtype = DType::kUInt8}), Error);
  EXPECT_THROW(estimate_model_states({.moments = -1}), Error);
}

}  // namespace
}  // namespace deepscale
