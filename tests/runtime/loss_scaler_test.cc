// LossScaler against sequences computed by hand from DeepSpeed's rules.
#include "runtime/schedule/loss_scaler.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "comm/base/error.h"

namespace deepscale {
namespace {

struct Sequence {
  const char* name;
  LossScaleConfig config;
  std::string steps;           // 'x': overflow, '.': none
  std::vector<double> scales;  // after each step
};

// initial_scale_power 4 is a scale of 16.
const std::vector<Sequence> kSequences = {
    {"hysteresis 1 halves at once", {.initial_scale_power = 4, .hysteresis = 1}, "xx.x", {8, 4, 4, 2}},
    {"hysteresis 2 forgives one", {.initial_scale_power = 4, .hysteresis = 2}, "xxx", {16, 8, 4}},
    {"used hysteresis stays used", {.initial_scale_power = 4, .hysteresis = 2}, "x.x.x", {16, 16, 8, 8, 4}},
    {"consecutive hysteresis is refilled by a good step",
     {.initial_scale_power = 4, .hysteresis = 2, .consecutive_hysteresis = true},
     "x.x.xx",
     {16, 16, 16, 16, 16, 8}},
    {"window 2: grows at the third good step, then every second",
     {.initial_scale_power = 4, .loss_scale_window = 2},
     ".......",
     {16, 16, 32, 32, 64, 64, 128}},
    {"window 1: every step but the first",
     {.initial_scale_power = 4, .loss_scale_window = 1},
     "....",
     {16, 32, 64, 128}},
    {"an overflow restarts the window",
     {.initial_scale_power = 4, .loss_scale_window = 2, .hysteresis = 1},
     "..x..x...x",
     {16, 16, 8, 8, 8, 4, 4, 4, 8, 4}},
    {"a forgiven overflow restarts the window too",
     {.initial_scale_power = 4, .loss_scale_window = 2, .hysteresis = 2},
     "..x...x",
     {16, 16, 16, 16, 16, 32, 32}},
    {"growing refills hysteresis",
     {.initial_scale_power = 4, .loss_scale_window = 2, .hysteresis = 2},
     "x...xx",
     {16, 16, 16, 32, 32, 16}},
    {"hysteresis 3", {.initial_scale_power = 4, .hysteresis = 3}, "xxxx", {16, 16, 8, 4}},
    {"stops at the minimum", {.initial_scale_power = 4, .hysteresis = 1, .min_loss_scale = 6}, "xx", {8, 6}},
    {"a static scale never moves",
     {.loss_scale = 128, .loss_scale_window = 1, .hysteresis = 1},
     "xx..x",
     {128, 128, 128, 128, 128}},
};

TEST(LossScaler, FollowsTheRulesStepByStep) {
  for (const Sequence& sequence : kSequences) {
    SCOPED_TRACE(sequence.name);
    LossScaler scaler(sequence.config);
    ASSERT_EQ(sequence.steps.size(), sequence.scales.size());
    for (std::size_t i = 0; i < sequence.steps.size(); ++i) {
      scaler.update(sequence.steps[i] == 'x');
      EXPECT_EQ(scaler.scale(), sequence.scales[i]) << "after step " << i;
    }
  }
}

TEST(LossScaler, StartsAtTwoToTheInitialPower) {
  EXPECT_EQ(LossScaler({}).scale(), 65536.0);
  EXPECT_EQ(LossScaler({.initial_scale_power = 32}).scale(), 4294967296.0);
  EXPECT_TRUE(LossScaler({}).is_dynamic());
  EXPECT_FALSE(LossScaler({.loss_scale = 1.0}).is_dynamic());
}

TEST(LossScaler, EndsTheRunWhenTheMinimumOverflows) {
  LossScaler scaler({.initial_scale_power = 1, .hysteresis = 1, .min_loss_scale = 1});
  scaler.update(true);
  EXPECT_EQ(scaler.scale(), 1.0);
  EXPECT_THROW(scaler.update(true), Error);
}

TEST(LossScaler, RefusesImpossibleConfigs) {
  const std::vector<LossScaleConfig> impossible = {
      {.loss_scale = -1.0},     {.loss_scale = std::numeric_limits<double>::quiet_NaN()},
      {.loss_scale_window = 0}, {.hysteresis = 0},
      {.min_loss_scale = 0.0},
  };
  for (std::size_t i = 0; i < impossible.size(); ++i)
    EXPECT_THROW(LossScaler{impossible[i]}, Error) << "case " << i;
}

}  // namespace
}  // namespace deepscale
