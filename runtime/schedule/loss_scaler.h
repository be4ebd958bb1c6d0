// The loss scale of fp16 training: static, or dynamic with window and hysteresis.
//
//   overflow: hysteresis left > 1 -> use one up; else scale = max(scale / 2, min_loss_scale)
//   loss_scale_window steps without overflow: scale *= 2, and hysteresis is filled up again
//   consecutive_hysteresis: hysteresis is filled up by every step without overflow
//
// As in DeepSpeed, the window begins to count with the step after the first one without overflow: the scale
// grows at the end of step loss_scale_window + 1, and hysteresis that was used up stays so until the scale
// grows.
//
// Every rank must call update() with the same verdict. Not thread-safe. Follows DeepSpeed's
// deepspeed/runtime/fp16/loss_scaler.py and "Mixed Precision Training" (Micikevicius et al., 2018).
#pragma once

#include <cstdint>

#include "runtime/config/config.h"

namespace deepscale {

class LossScaler {
 public:
  // Error(kInvalidArgument) for a negative scale, or a window, hysteresis or minimum that is not positive.
  explicit LossScaler(const LossScaleConfig& config);

  // What a checkpoint keeps of it.
  struct State {
    double scale;
    int hysteresis_left;
    std::int64_t step = 0;
    std::int64_t last_overflow_step = -1;
  };
  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

  double scale() const { return state_.scale; }
  bool is_dynamic() const { return config_.loss_scale == 0.0; }
  // After each step: whether any rank's gradient overflowed, that is, whether the step was skipped.
  // Error(kInvalidArgument) when the scale would have to fall below min_loss_scale: training has diverged,
  // and skipping every further step would only hide it. Rank by rank the same, since the verdict is.
  void update(bool overflow);

 private:
  void shrink();

  LossScaleConfig config_;
  State state_;
};

}  // namespace deepscale
