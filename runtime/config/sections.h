// The sections of a ds_config.json, one function and one table of keys each. Internal to runtime/config.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "runtime/config/config.h"
#include "runtime/config/value.h"

namespace deepscale {

void read_zero_optimization(const Value& section, ZeroConfig& zero);
void read_optimizer(const Value& section, std::optional<OptimizerConfig>& optimizer);
void read_scheduler(const Value& section, SchedulerConfig& scheduler);

// What fp16, bf16, data_types and communication_data_type say, before they are brought together.
struct PrecisionKeys {
  bool fp16_enabled = false;
  bool bf16_enabled = false;
  bool bf16_check_gradient_overflow = true;
  LossScaleConfig loss_scale;
  std::optional<DType> gradient_accumulation_dtype;
  std::optional<DType> communication_dtype;
};
std::vector<Key> precision_keys(PrecisionKeys& precision);
void apply_precision(const PrecisionKeys& precision, std::string_view source, Config& config);

// train_batch_size, train_micro_batch_size_per_gpu and gradient_accumulation_steps, as far as the file gives
// them.
struct BatchKeys {
  std::optional<std::int64_t> train_batch_size;
  std::optional<std::int64_t> micro_batch_size;
  std::optional<std::int64_t> gradient_accumulation_steps;
  bool any_is_auto = false;
};
std::vector<Key> batch_keys(const ConfigContext& context, BatchKeys& batch);
void apply_batch(const BatchKeys& batch, std::string_view source, const ConfigContext& context,
                 Config& config);

// aio, and keys of everything else DeepSpeed knows: without effect here, or of features that this version
// does not have.
std::vector<Key> other_keys(AioConfig& aio);

// csv_monitor, tensorboard, comms_logger, flops_profiler, wall_clock_breakdown, activation_checkpointing.
std::vector<Key> observer_keys(Config& config);

}  // namespace deepscale
