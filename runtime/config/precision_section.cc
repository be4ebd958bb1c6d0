// fp16, bf16, data_types, communication_data_type and the other ways to choose a data type.
#include <fmt/core.h>

#include "comm/base/error.h"
#include "runtime/config/sections.h"

namespace deepscale {
namespace {

using enum ValueType;

template <typename T>
ValueReader dtype(T& out) {
  return choice(out, {{"fp32", T(DType::kFloat32)},
                      {"float32", T(DType::kFloat32)},
                      {"float", T(DType::kFloat32)},
                      {"bf16", T(DType::kBFloat16)},
                      {"bfloat16", T(DType::kBFloat16)},
                      {"fp16", T(DType::kFloat16)},
                      {"float16", T(DType::kFloat16)},
                      {"half", T(DType::kFloat16)}});
}

Key enabled_key(const ConfigContext& context, DType dtype, bool& enabled) {
  return {"enabled", boolean(enabled), {}, [&context, dtype, &enabled] { enabled = context.dtype == dtype; }};
}

void read_fp16(const Value& section, PrecisionKeys& precision) {
  LossScaleConfig& scale = precision.loss_scale;
  section.read_section({
      enabled_key(section.context(), DType::kFloat16, precision.fp16_enabled),
      {"loss_scale", number(scale.loss_scale, 0.0)},
      {"initial_scale_power", integer(scale.initial_scale_power, 0, 127)},
      {"loss_scale_window", integer(scale.loss_scale_window, 1)},
      {"hysteresis", integer(scale.hysteresis, 1, 1'000'000)},
      {"consecutive_hysteresis", boolean(scale.consecutive_hysteresis)},
      {"min_loss_scale", number(scale.min_loss_scale, kAboveZero)},
      {"auto_cast", accepted(kBool)},  // Engine::forward() always casts
      {"fp16_master_weights_and_grads", off_only("fp16 master weights")},
  });
}

void read_bf16(const Value& section, PrecisionKeys& precision) {
  section.read_section({
      enabled_key(section.context(), DType::kBFloat16, precision.bf16_enabled),
      {"check_grad_overflow", boolean(precision.bf16_check_gradient_overflow)},
      {"immediate_grad_update", accepted(kBool)},
      {"bf16_master_weights_and_grads", off_only("bf16 master weights")},
      {"bf16_optimizer_states", off_only("bf16 optimizer state")},
  });
}

void read_data_types(const Value& section, PrecisionKeys& precision) {
  const auto of_own = [](const Value& value) {
    value.not_here("a data type of its own for parameters or buffers");
  };
  section.read_section({
      {"grad_accum_dtype", dtype(precision.gradient_accumulation_dtype)},
      {"param_dtype", of_own},
      {"buffer_dtype", of_own},
      {"keep_in_fp32_modules",
       [](const Value& value) {
         if (!value.is_empty()) value.not_here("keeping some modules in fp32");
       }},
  });
}

void read_autocast(const Value& section) {
  section.read_section({
      {"enabled", off_only("torch_autocast (bf16 and fp16 are)")},
      {"dtype", accepted(kText)},
      {"lower_precision_safe_modules", accepted(kAny)},
  });
}

}  // namespace

std::vector<Key> precision_keys(PrecisionKeys& precision) {
  return {
      {"fp16", [&](const Value& value) { read_fp16(value, precision); }},
      {"bf16", [&](const Value& value) { read_bf16(value, precision); }, {"bfloat16"}},
      {"data_types", [&](const Value& value) { read_data_types(value, precision); }},
      {"communication_data_type", dtype(precision.communication_dtype)},
      {"torch_autocast", read_autocast},
  };
}

void apply_precision(const PrecisionKeys& precision, std::string_view source, Config& config) {
  if (precision.fp16_enabled && precision.bf16_enabled) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: fp16.enabled and bf16.enabled are both true; switch one of them off", source));
  }
  if (precision.fp16_enabled) {
    config.dtype = DType::kFloat16;
    config.check_gradient_overflow = true;
  } else if (precision.bf16_enabled) {
    config.dtype = DType::kBFloat16;
    config.check_gradient_overflow = precision.bf16_check_gradient_overflow;
  }
  config.loss_scale = precision.loss_scale;
  config.gradient_accumulation_dtype = precision.gradient_accumulation_dtype;
  if (precision.communication_dtype && *precision.communication_dtype != config.dtype) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: communication_data_type: gradients travel as {} here, got {}; remove it",
                            source, dtype_name(config.dtype), dtype_name(*precision.communication_dtype)));
  }
}

}  // namespace deepscale
