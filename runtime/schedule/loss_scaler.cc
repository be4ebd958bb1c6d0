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
      state_{
          .scale = config.loss_scale == 0.0 ? std::ldexp(1.0, config.initial_scale_power) : config.loss_scale,
          .hysteresis_left = config.hysteresis} {
  check(config);
}

void LossScaler::update(bool overflow) {
  if (!is_dynamic()) return;
  const std::int64_t step = state_.step++;
  if (overflow) {
    state_.last_overflow_step = step;
    if (state_.hysteresis_left > 1) {
      --state_.hysteresis_left;
    } else {
      shrink();
    }
    return;
  }
  if (config_.consecutive_hysteresis) state_.hysteresis_left = config_.hysteresis;
  const std::int64_t stable_steps = step - state_.last_overflow_step - 1;
  if (stable_steps > 0 && stable_steps % config_.loss_scale_window == 0) {
    state_.hysteresis_left = config_.hysteresis;
    state_.scale *= 2.0;
  }
}

void LossScaler::shrink() {
  if (state_.scale <= config_.min_loss_scale) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format(
            "fp16: the gradients overflow although the loss scale is at its minimum of {}; training has "
            "diverged. Try a lower learning rate, gradient clipping, or bf16",
            config_.min_loss_scale));
  }
  state_.scale = std::max(state_.scale / 2.0, config_.min_loss_scale);
}

}  // namespace deepscale
