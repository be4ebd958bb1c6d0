#include "runtime/schedule/loss_scaler.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "comm/base/error.h"

namespace deepscale {
namespace {

void check(const LossScaleConfig& config) {
  const auto require = [](bool valid, const char* name, double value) {
    if (valid) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("loss scaler: {} must be positive, got {}", name, value));
  };
  // Written so that NaN fails too.
  require(config.loss_scale >= 0.0 && std::isfinite(config.loss_scale), "loss_scale (or 0 for dynamic)",
          config.loss_scale);
  require(config.loss_scale_window >= 1, "loss_scale_window", static_cast<double>(config.loss_scale_window));
  require(config.hysteresis >= 1, "hysteresis", config.hysteresis);
  require(config.min_loss_scale > 0.0, "min_loss_scale", config.min_loss_scale);
}

}  // namespace

LossScaler::LossScaler(const LossScaleConfig& config)
    : config_(config),
      scale_(config.loss_scale == 0.0 ? std::ldexp(1.0, config.initial_scale_power) : config.loss_scale),
      hysteresis_left_(config.hysteresis) {
  check(config);
}

void LossScaler::update(bool overflow) {
  if (!is_dynamic()) return;
  const std::int64_t step = step_++;
  if (overflow) {
    last_overflow_step_ = step;
    if (hysteresis_left_ > 1) {
      --hysteresis_left_;
    } else {
      shrink();
    }
    return;
  }
  if (config_.consecutive_hysteresis) hysteresis_left_ = config_.hysteresis;
  const std::int64_t stable_steps = step - last_overflow_step_ - 1;
  if (stable_steps > 0 && stable_steps % config_.loss_scale_window == 0) {
    hysteresis_left_ = config_.hysteresis;
    scale_ *= 2.0;
  }
}

void LossScaler::shrink() {
  if (scale_ <= config_.min_loss_scale) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format(
            "fp16: the gradients overflow although the loss scale is at its minimum of {}; training has "
            "diverged. Try a lower learning rate, gradient clipping, or bf16",
            config_.min_loss_scale));
  }
  scale_ = std::max(scale_ / 2.0, config_.min_loss_scale);
}

}  // namespace deepscale
