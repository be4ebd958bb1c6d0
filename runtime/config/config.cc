#include "runtime/config/config.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "comm/base/error.h"
#include "runtime/config/json_text.h"
#include "runtime/config/sections.h"

namespace deepscale {
namespace {

void check_context(const ConfigContext& context) {
  const auto require_positive = [](const char* name, std::int64_t value, std::int64_t most) {
    if (value >= 1 && value <= most) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("config context: {} must be 1..{}, got {}", name, most, value));
  };
  // Its square is a bucket size.
  constexpr std::int64_t kLargestHiddenSize = 1'000'000'000;
  require_positive("data_parallel_world_size", context.data_parallel_world_size, kAnyInteger);
  require_positive("hidden_size", context.hidden_size.value_or(1), kLargestHiddenSize);
  require_positive("micro_batch_size", context.micro_batch_size.value_or(1), kAnyInteger);
  require_positive("gradient_accumulation_steps", context.gradient_accumulation_steps.value_or(1),
                   kAnyInteger);
}

std::vector<Key> keys_of_this_version(const ConfigContext& context, Config& config) {
  return {
      {"gradient_clipping",
       number(config.gradient_clipping, 0.0),
       {},
       answer(config.gradient_clipping, context.gradient_clipping)},
      {"steps_per_print", integer(config.steps_per_print, 0)},
      {"prescale_gradients", boolean(config.prescale_gradients)},
      {"gradient_predivide_factor", number(config.gradient_predivide_factor, kAboveZero)},
      {"optimizer", [&](const Value& value) { read_optimizer(value, config.optimizer); }},
      {"scheduler", [&](const Value& value) { read_scheduler(value, config.scheduler); }},
      {"zero_optimization", [&](const Value& value) { read_zero_optimization(value, config.zero); }},
      {"deepscale",
       [&](const Value& section) {
         section.read_section(
             {{"share_parameters_on_host", boolean(config.deepscale.share_parameters_on_host)}});
       }},
  };
}

}  // namespace

Config parse_config(std::string_view text, std::string_view source, const ConfigContext& context) {
  check_context(context);
  const nlohmann::ordered_json json = parse_json_text(text, source);
  Config config;
  PrecisionKeys precision;
  BatchKeys batch;
  std::vector<Key> keys = keys_of_this_version(context, config);
  for (auto& more : {batch_keys(context, batch), precision_keys(precision), observer_keys(config),
                     other_keys(config.aio)}) {
    keys.insert(keys.end(), more.begin(), more.end());
  }
  Document document{.source = std::string(source), .context = context, .warnings = config.warnings};
  Value(json, "", document).read_top_level(keys);
  apply_precision(precision, source, config);
  apply_batch(batch, source, context, config);
  return config;
}

}  // namespace deepscale
