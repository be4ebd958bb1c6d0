// The five schedules against the values of DeepSpeed's own schedulers (golden/learning_rate_golden.py made
// them), and by hand.
#include "runtime/schedule/learning_rate.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "comm/base/error.h"

namespace deepscale {
namespace {

constexpr double kBaseLr = 0.02;

struct Golden {
  std::string name;
  std::vector<double> learning_rates;  // of step 0, 1, ...
  std::vector<double> momenta;         // empty: the schedule leaves momentum alone
};

const std::vector<Golden>& golden() {
  static const std::vector<Golden> values = {
#include "tests/runtime/golden/learning_rate_golden.inc"
  };
  return values;
}

// The same arguments as in golden/learning_rate_golden.py.
std::map<std::string, SchedulerConfig> configs() {
  using enum SchedulerKind;
  std::map<std::string, SchedulerConfig> c;
  c["warmup_log"] = {.kind = kWarmupLr, .warmup_min_lr = 1e-5, .warmup_max_lr = 1e-3, .warmup_num_steps = 10};
  c["warmup_linear"] = {.kind = kWarmupLr, .warmup_num_steps = 5, .warmup_linear = true};
  c["warmup_one_step"] = {.kind = kWarmupLr, .warmup_max_lr = 1e-3, .warmup_num_steps = 1};
  c["decay_log"] = {.kind = kWarmupDecayLr,
                    .warmup_min_lr = 1e-4,
                    .warmup_max_lr = 1e-2,
                    .warmup_num_steps = 6,
                    .total_num_steps = 20};
  c["decay_linear"] = {.kind = kWarmupDecayLr,
                       .warmup_max_lr = 1e-2,
                       .warmup_num_steps = 4,
                       .warmup_linear = true,
                       .total_num_steps = 10};
  c["decay_too_short"] = {
      .kind = kWarmupDecayLr, .warmup_max_lr = 1e-2, .warmup_num_steps = 6, .total_num_steps = 3};
  c["cosine"] = {.kind = kWarmupCosineLr,
                 .warmup_num_steps = 5,
                 .total_num_steps = 20,
                 .warmup_min_ratio = 0.1,
                 .cos_min_ratio = 0.01};
  c["cosine_linear"] = {
      .kind = kWarmupCosineLr, .warmup_num_steps = 4, .warmup_linear = true, .total_num_steps = 12};
  c["cosine_too_short"] = {.kind = kWarmupCosineLr, .warmup_num_steps = 4, .total_num_steps = 3};
  const SchedulerConfig cycle = {.kind = kOneCycle, .cycle_min_lr = 0.01, .cycle_max_lr = 0.1};
  SchedulerConfig& plain = c["one_cycle"] = cycle;
  plain.cycle_first_step_size = 4;
  SchedulerConfig& stairs = c["one_cycle_stairs"] = cycle;
  stairs.cycle_first_step_size = 7;
  stairs.cycle_second_step_size = 11;
  stairs.cycle_first_stair_count = 3;
  stairs.cycle_second_stair_count = 4;
  SchedulerConfig& decay = c["one_cycle_decay"] = cycle;
  decay.cycle_first_step_size = 3;
  decay.cycle_second_step_size = 5;
  decay.decay_step_size = 2;
  decay.decay_lr_rate = 0.5;
  decay.cycle_min_mom = 0.85;
  decay.cycle_max_mom = 0.99;
  decay.decay_mom_rate = 0.001;
  SchedulerConfig& rise = c["one_cycle_rise_only"] = cycle;
  rise.cycle_first_step_size = 3;
  rise.cycle_second_step_size = 0;
  rise.cycle_momentum = false;
  SchedulerConfig& range = c["range_test"] = {.kind = kLrRangeTest, .lr_range_test_min_lr = 1e-4};
  range.lr_range_test_step_size = 5;
  range.lr_range_test_step_rate = 2.0;
  SchedulerConfig& staircase = c["range_test_staircase"] = range;
  staircase.lr_range_test_staircase = true;
  return c;
}

TEST(LearningRateSchedule, EqualsDeepSpeedStepByStep) {
  const auto all = configs();
  ASSERT_EQ(golden().size(), all.size());
  for (const Golden& expected : golden()) {
    SCOPED_TRACE(expected.name);
    const LearningRateSchedule schedule(all.at(expected.name), kBaseLr);
    ASSERT_GE(expected.learning_rates.size(), 5u);
    for (std::size_t step = 0; step < expected.learning_rates.size(); ++step) {
      const auto number = static_cast<std::int64_t>(step);
      EXPECT_NEAR(schedule.learning_rate(number), expected.learning_rates[step], 1e-15) << "step " << step;
      ASSERT_EQ(schedule.momentum(number).has_value(), !expected.momenta.empty());
      if (!expected.momenta.empty()) {
        EXPECT_NEAR(*schedule.momentum(number), expected.momenta[step], 1e-15) << "step " << step;
      }
    }
  }
}

TEST(LearningRateSchedule, WithoutASchedulerIsTheOptimizersOwn) {
  const LearningRateSchedule schedule({}, kBaseLr);
  EXPECT_EQ(schedule.learning_rate(0), kBaseLr);
  EXPECT_EQ(schedule.learning_rate(1'000'000), kBaseLr);
  EXPECT_FALSE(schedule.momentum(0).has_value());
}

// By hand: a logarithmic warm-up over 4 steps is at log(2)/log(4) = 1/2 after two steps.
TEST(LearningRateSchedule, WarmsUpByTheLogarithm) {
  const LearningRateSchedule schedule(
      {.kind = SchedulerKind::kWarmupLr, .warmup_max_lr = 1.0, .warmup_num_steps = 4}, kBaseLr);
  EXPECT_EQ(schedule.learning_rate(0), 0.0);
  EXPECT_EQ(schedule.learning_rate(1), 0.0);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(2), 0.5);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(4), 1.0);
  EXPECT_EQ(schedule.learning_rate(5), 1.0);
}

TEST(LearningRateSchedule, StaysFiniteOnAVeryLongRun) {
  for (const auto& [name, config] : configs()) {
    const double rate = LearningRateSchedule(config, kBaseLr).learning_rate(1'000'000'000'000);
    EXPECT_TRUE(rate >= 0.0 && rate < 1e12) << name << ": " << rate;
  }
}

TEST(LearningRateSchedule, RefusesImpossibleSchedules) {
  const std::vector<SchedulerConfig> impossible = {
      {.kind = SchedulerKind::kWarmupLr, .warmup_num_steps = -1},
      {.kind = SchedulerKind::kWarmupDecayLr},  // total_num_steps is required
      {.kind = SchedulerKind::kWarmupCosineLr},
      {.kind = SchedulerKind::kOneCycle, .cycle_first_step_size = 0},
      {.kind = SchedulerKind::kOneCycle, .cycle_second_step_size = -1},
      {.kind = SchedulerKind::kOneCycle, .cycle_first_stair_count = -1},
      {.kind = SchedulerKind::kOneCycle, .decay_step_size = -1},
      {.kind = SchedulerKind::kLrRangeTest, .lr_range_test_step_size = 0},
  };
  for (std::size_t i = 0; i < impossible.size(); ++i) {
    EXPECT_THROW(LearningRateSchedule(impossible[i], kBaseLr), Error) << "case " << i;
  }
}

}  // namespace
}  // namespace deepscale
