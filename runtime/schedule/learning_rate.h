// The learning-rate schedules of ds_config.json: WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle,
// LRRangeTest.
//
// A pure function of the number of optimizer steps taken (skipped steps do not count); any thread may call
// it. The curves are those of DeepSpeed's deepspeed/runtime/lr_schedules.py, its first two steps included:
// DeepSpeed moves the schedule after each step and begins at -1, so a warm-up starts with two steps at its
// minimum. OneCycle and LRRangeTest follow "A disciplined approach to neural network hyper-parameters"
// (Smith, 2018).
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/config/config.h"

namespace deepscale {

class LearningRateSchedule {
 public:
  // OneCycle with cycle_momentum also fixes beta2, at this value.
  static constexpr double kCycleBeta2 = 0.99;

  // `base_lr` is the optimizer's lr, used where the schedule has no value of its own. Error(kInvalidArgument)
  // for an impossible schedule.
  LearningRateSchedule(const SchedulerConfig& config, double base_lr);

  // For the optimizer step number `step`, the first being 0.
  double learning_rate(std::int64_t step) const;
  // OneCycle with cycle_momentum: beta1 of that step, for optimizers that have betas; else empty.
  std::optional<double> momentum(std::int64_t step) const;

 private:
  double warmup(std::int64_t step) const;        // from 0 to 1
  double cosine_ratio(std::int64_t step) const;  // of base_lr
  std::int64_t cycle_size() const { return config_.cycle_first_step_size + *config_.cycle_second_step_size; }
  double cycle_height(std::int64_t step) const;  // from 0 to 1 and back to 0
  double decay_intervals(std::int64_t step) const;

  SchedulerConfig config_;
  double base_lr_;
};

}  // namespace deepscale
