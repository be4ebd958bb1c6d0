#include "runtime/zero/memory_estimate.h"

#include <fmt/core.h>

#include <algorithm>

#include "comm/base/error.h"

namespace deepscale {
namespace {

// More parameters than bytes of address space.
constexpr std::int64_t kMaxNumel = std::int64_t{1} << 56;
constexpr int kMaxMoments = 16;

void require(bool valid, const char* name, std::int64_t value) {
  if (valid) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("memory estimate: {} cannot be {}", name, value));
}

void check(const ModelStateOptions& options, DType gradient_dtype) {
  require(options.parameter_numel >= 0 && options.parameter_numel <= kMaxNumel, "parameter_numel",
          options.parameter_numel);
  require(options.stage >= 0 && options.stage <= 3, "stage", options.stage);
  require(options.world_size >= 1, "world_size", options.world_size);
  require(options.moments >= 0 && options.moments <= kMaxMoments, "moments", options.moments);
  for (const DType dtype : {options.dtype, gradient_dtype}) {
    if (is_floating_point(dtype)) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("memory estimate: {} is not a floating-point type", dtype_name(dtype)));
  }
}

}  // namespace

ModelStateBytes estimate_model_states(const ModelStateOptions& options) {
  const DType gradient_dtype = options.gradient_dtype.value_or(options.dtype);
  check(options, gradient_dtype);
  const std::int64_t whole = options.parameter_numel;
  const std::int64_t shard = (whole + options.world_size - 1) / options.world_size;
  const auto part_from_stage = [&](int stage) { return options.stage >= stage ? shard : whole; };

  const auto parameter_size = static_cast<std::int64_t>(size_of(options.dtype));
  const auto gradient_size = static_cast<std::int64_t>(size_of(gradient_dtype));
  const auto fp32_size = static_cast<std::int64_t>(size_of(DType::kFloat32));
  const std::int64_t fp32_values = options.moments + (options.dtype == DType::kFloat32 ? 0 : 1);
  return {.parameters = part_from_stage(3) * parameter_size,
          .gradients = part_from_stage(options.accumulates_gradients ? 2 : 1) * gradient_size,
          .optimizer_state = part_from_stage(1) * fp32_size * fp32_values};
}

PlacedBytes place_model_states(const ModelStateOptions& options, const PlacementOptions& placement) {
  const ModelStateBytes states = estimate_model_states(options);
  PlacedBytes placed = {.device = states.gradients};
  const bool optimizer_is_away = placement.offload_optimizer && options.stage >= 1;
  (optimizer_is_away ? placed.host : placed.device) += states.optimizer_state;
  const bool parameters_are_away = placement.offload_parameters && options.stage == 3;
  (parameters_are_away ? placed.host : placed.device) += states.parameters;
  if (options.stage == 3 && options.world_size > 1) {
    const std::int64_t gathered =
        std::min(options.parameter_numel, std::max(placement.max_live_numel, placement.largest_layer_numel));
    placed.device += gathered * static_cast<std::int64_t>(size_of(options.dtype));
  }
  return placed;
}

}  // namespace deepscale
