#include "runtime/schedule/learning_rate.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "comm/base/error.h"

namespace deepscale {
namespace {

void require_at_least(std::int64_t least, const char* name, std::int64_t value) {
  if (value >= least) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("scheduler.params.{}: must be at least {}, got {}", name, least, value));
}

void check(const SchedulerConfig& config) {
  switch (config.kind) {
    case SchedulerKind::kNone:
      return;
    case SchedulerKind::kWarmupDecayLr:
    case SchedulerKind::kWarmupCosineLr:
      require_at_least(1, "total_num_steps", config.total_num_steps);
      [[fallthrough]];
    case SchedulerKind::kWarmupLr:
      require_at_least(0, "warmup_num_steps", config.warmup_num_steps);
      return;
    case SchedulerKind::kOneCycle:
      require_at_least(1, "cycle_first_step_size", config.cycle_first_step_size);
      require_at_least(0, "cycle_second_step_size", config.cycle_second_step_size.value_or(0));
      require_at_least(0, "cycle_first_stair_count", config.cycle_first_stair_count);
      require_at_least(0, "cycle_second_stair_count", config.cycle_second_stair_count.value_or(0));
      require_at_least(0, "decay_step_size", config.decay_step_size);
      return;
    case SchedulerKind::kLrRangeTest:
      require_at_least(1, "lr_range_test_step_size", config.lr_range_test_step_size);
      return;
  }
}

double between(double low, double high, double fraction) {
  return low + (high - low) * fraction;
}

}  // namespace

LearningRateSchedule::LearningRateSchedule(const SchedulerConfig& config, double base_lr)
    : config_(config), base_lr_(base_lr) {
  check(config);
  // The logarithm of the warm-up divides by log(warmup_num_steps).
  config_.warmup_num_steps = std::max<std::int64_t>(config.warmup_num_steps, 2);
  config_.cycle_second_step_size = config.cycle_second_step_size.value_or(config.cycle_first_step_size);
  config_.cycle_second_stair_count = config.cycle_second_stair_count.value_or(config.cycle_first_stair_count);
}

double LearningRateSchedule::learning_rate(std::int64_t step) const {
  const SchedulerConfig& c = config_;
  switch (c.kind) {
    case SchedulerKind::kNone:
      break;
    case SchedulerKind::kWarmupLr:
    case SchedulerKind::kWarmupDecayLr: {
      double fraction = warmup(step);
      if (c.kind == SchedulerKind::kWarmupDecayLr && step > c.warmup_num_steps) {
        const auto decay_steps =
            static_cast<double>(std::max<std::int64_t>(1, c.total_num_steps - c.warmup_num_steps));
        fraction = std::max(0.0, static_cast<double>(c.total_num_steps - step + 1) / decay_steps);
      }
      return between(c.warmup_min_lr, c.warmup_max_lr.value_or(base_lr_), fraction);
    }
    case SchedulerKind::kWarmupCosineLr:
      return base_lr_ * cosine_ratio(step);
    case SchedulerKind::kOneCycle:
      if (step > cycle_size()) return c.cycle_min_lr / (1.0 + c.decay_lr_rate * decay_intervals(step));
      return between(c.cycle_min_lr, c.cycle_max_lr, cycle_height(step));
    case SchedulerKind::kLrRangeTest: {
      const double intervals = static_cast<double>(step) / static_cast<double>(c.lr_range_test_step_size);
      return c.lr_range_test_min_lr *
             (1.0 +
              c.lr_range_test_step_rate * (c.lr_range_test_staircase ? std::floor(intervals) : intervals));
    }
  }
  return base_lr_;
}

std::optional<double> LearningRateSchedule::momentum(std::int64_t step) const {
  if (config_.kind != SchedulerKind::kOneCycle || !config_.cycle_momentum) return std::nullopt;
  // DeepSpeed starts here before its schedule has moved, although the cycle itself begins at the maximum.
  if (step == 0) return config_.cycle_min_mom;
  if (step > cycle_size())
    return config_.cycle_max_mom * (1.0 + config_.decay_mom_rate * decay_intervals(step));
  return between(config_.cycle_max_mom, config_.cycle_min_mom, cycle_height(step));
}

double LearningRateSchedule::warmup(std::int64_t step) const {
  if (step == 0) return 0.0;
  if (step > config_.warmup_num_steps) return 1.0;
  const auto steps = static_cast<double>(config_.warmup_num_steps);
  if (config_.warmup_linear) return static_cast<double>(step - 1) / steps;
  return std::log(static_cast<double>(step)) / std::log(steps);
}

double LearningRateSchedule::cosine_ratio(std::int64_t step) const {
  // Not warmup_min_ratio: DeepSpeed has no ratio before its schedule has moved.
  if (step == 0) return 0.0;
  if (step <= config_.warmup_num_steps) return between(config_.warmup_min_ratio, 1.0, warmup(step));
  const std::int64_t decay_steps =
      std::max<std::int64_t>(1, config_.total_num_steps - config_.warmup_num_steps);
  const double progress =
      std::min(1.0, static_cast<double>(step - config_.warmup_num_steps) / static_cast<double>(decay_steps));
  return std::max(0.0,
                  between(config_.cos_min_ratio, 1.0, (1.0 + std::cos(std::numbers::pi * progress)) / 2.0));
}

double LearningRateSchedule::cycle_height(std::int64_t step) const {
  const std::int64_t position = step % cycle_size();
  const bool rising = position <= config_.cycle_first_step_size;
  const std::int64_t steps = rising ? position : cycle_size() - position;
  const std::int64_t size = rising ? config_.cycle_first_step_size : *config_.cycle_second_step_size;
  const std::int64_t stairs = rising ? config_.cycle_first_stair_count : *config_.cycle_second_stair_count;
  if (stairs == 0) return static_cast<double>(steps) / static_cast<double>(size);
  const double stair =
      std::floor(static_cast<double>(steps) * static_cast<double>(stairs) / static_cast<double>(size));
  return stair / static_cast<double>(stairs);
}

double LearningRateSchedule::decay_intervals(std::int64_t step) const {
  if (config_.decay_step_size == 0) return 0.0;
  return static_cast<double>(step - cycle_size()) / static_cast<double>(config_.decay_step_size);
}

}  // namespace deepscale
