// The learning-rate schedules of ds_config.json: WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle, LRRangeTest.
//
// A pure function of the number of optimizer steps taken; DeepSpeed's deepspeed/runtime/lr_schedules.py defines the curves.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/config/config.h"

namespace deepscale {

class LearningRateSchedule {
 public:
  // `base_lr` is the optimizer's lr, used where the schedule has no value of its own. Error(kInvalidArgument) for an impossible schedule.
  LearningRateSchedule(const SchedulerConfig& config, double base_lr);

  // For the optimizer step number `step`, the first being 0.
  double learning_rate(std::int64_t step) const;
  // OneCycle with cycle_momentum: beta1 of that step; else empty.
  std::optional<double> momentum(std::int64_t step) const;

 private:
  SchedulerConfig config_;
  double base_lr_;
};

}  // namespace deepscale
