// A ds_config.json, typed.
//
// Accepts what DeepSpeed accepts: a path, or the urlsafe-base64 form of the text; comments (#, //, /* */) and
// trailing commas; 5e8 as a whole number; aliases (stage3_x and x, bfloat16, cpu_offload, zero_optimization:
// true); "auto". A duplicate key, or an unknown one inside a section, is an error that gives the key's path
// and, where one is near, "did you mean"; an unknown key at top level is a warning (an error with
// ConfigContext::strict). A known key whose feature this version does not have is an error when it asks for
// the feature, and accepted when it switches it off. Defaults are those of DeepSpeed's code (0.19).
// docs/ds_config.md lists every key.
//
// Values are plain data; reading one is thread-safe. All errors are Error(kInvalidArgument), (kNotFound), or
// (kUnsupported) for a feature that is not in this version, in the form
// "ds_config.json: zero_optimization.stage: expected 0..3, got 7".
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/base/dtype.h"

namespace deepscale {

// kAdam: L2 regularisation; kAdamW: decoupled weight decay.
enum class OptimizerKind { kAdamW, kAdam, kSgd, kLion, kAdagrad };
enum class SchedulerKind { kNone, kWarmupLr, kWarmupDecayLr, kWarmupCosineLr, kOneCycle, kLrRangeTest };
enum class OffloadDevice { kNone, kCpu, kNvme };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};  // Lion: {0.9, 0.99}
  double eps = 1e-8;
  double weight_decay = 0.0;
  bool bias_correction = true;
  double momentum = 0.0;   // SGD
  double dampening = 0.0;  // SGD
  bool nesterov = false;   // SGD
};

// Learning rates without a value come from the optimizer's lr. Steps count optimizer steps.
struct SchedulerConfig {
  SchedulerKind kind = SchedulerKind::kNone;
  double warmup_min_lr = 0.0;
  std::optional<double> warmup_max_lr;
  std::int64_t warmup_num_steps = 1000;
  bool warmup_linear = false;  // warmup_type: "linear"; else "log"
  std::int64_t total_num_steps = 0;
  double warmup_min_ratio = 0.0;
  double cos_min_ratio = 1e-4;
  // OneCycle
  double cycle_min_lr = 0.0;
  double cycle_max_lr = 0.0;
  std::int64_t cycle_first_step_size = 2000;
  std::optional<std::int64_t> cycle_second_step_size;
  std::int64_t cycle_first_stair_count = 0;
  std::optional<std::int64_t> cycle_second_stair_count;
  std::int64_t decay_step_size = 0;
  double decay_lr_rate = 0.0;
  bool cycle_momentum = true;
  double cycle_min_mom = 0.8;
  double cycle_max_mom = 0.9;
  double decay_mom_rate = 0.0;
  // LRRangeTest
  double lr_range_test_min_lr = 1e-3;
  std::int64_t lr_range_test_step_size = 2000;
  double lr_range_test_step_rate = 1.0;
  bool lr_range_test_staircase = false;
};

struct LossScaleConfig {
  double loss_scale = 0.0;  // 0: dynamic
  int initial_scale_power = 16;
  std::int64_t loss_scale_window = 1000;
  int hysteresis = 2;
  bool consecutive_hysteresis = false;
  double min_loss_scale = 1.0;
};

struct OffloadConfig {
  OffloadDevice device = OffloadDevice::kNone;
  std::string nvme_path;
  bool pin_memory = true;
  double ratio = 1.0;  // of the optimizer's state; offload_optimizer only
};

// Asynchronous file I/O of offloading to nvme.
struct AioConfig {
  std::int64_t block_size = 1 << 20;  // bytes of one operation
  int queue_depth = 8;                // operations in flight
};

struct ZeroConfig {
  int stage = 0;
  std::int64_t reduce_bucket_size = 500'000'000;     // elements
  std::int64_t allgather_bucket_size = 500'000'000;  // elements
  bool overlap_comm = false;
  bool ignore_unused_parameters = true;
  // Stage 3, in elements.
  std::int64_t max_live_parameters = 1'000'000'000;
  std::int64_t max_reuse_distance = 1'000'000'000;
  std::int64_t prefetch_bucket_size = 50'000'000;
  std::int64_t param_persistence_threshold = 100'000;
  std::int64_t sub_group_size = 1'000'000'000;  // elements whose optimizer state is in memory at a time
  bool gather_16bit_weights_on_model_save = false;
  OffloadConfig offload_param;
  OffloadConfig offload_optimizer;
};

// csv_monitor or tensorboard: files of values over the steps.
struct MonitorConfig {
  bool enabled = false;
  std::string output_path;  // empty: the monitor's name, in the current folder
  std::string job_name = "DeepSpeedJobName";
};

struct CommsLoggerConfig {
  bool enabled = false;
  bool verbose = false;               // a log line for each operation
  bool prof_all = true;               // else prof_ops only
  std::vector<std::string> prof_ops;  // "all_reduce", "all_gather", ...
};

// A report on the floating-point operations of one step.
struct FlopsProfilerConfig {
  bool enabled = false;
  std::int64_t profile_step = 1;  // so many steps come before it
  bool detailed = true;           // with a table by operator
  std::string output_file;        // empty: the log
};

// The section "deepscale": what DeepSpeed does not have, at a place that it does not read.
struct DeepScaleConfig {
  // One copy of the parameters for all ranks, at stages 1 and 2 on the CPU, where all are on one host.
  bool share_parameters_on_host = false;
};

struct Config {
  // The batch triangle, all three filled in: train_batch_size = micro_batch_size *
  // gradient_accumulation_steps * data-parallel world size.
  std::int64_t train_batch_size = 1;
  std::int64_t micro_batch_size = 1;  // train_micro_batch_size_per_gpu
  std::int64_t gradient_accumulation_steps = 1;

  double gradient_clipping = 1.0;    // by global L2 norm; 0: off
  std::int64_t steps_per_print = 0;  // 0: never
  bool wall_clock_breakdown = false;
  MonitorConfig csv_monitor;
  MonitorConfig tensorboard;
  CommsLoggerConfig comms_logger;
  FlopsProfilerConfig flops_profiler;
  DeepScaleConfig deepscale;
  bool cpu_checkpointing = false;  // activation_checkpointing.cpu_checkpointing
  bool prescale_gradients = false;
  double gradient_predivide_factor = 1.0;

  DType dtype = DType::kFloat32;  // of parameters and computation: kFloat32, kBFloat16, kFloat16
  std::optional<DType> gradient_accumulation_dtype;  // data_types.grad_accum_dtype; empty: dtype
  bool check_gradient_overflow = false;              // fp16: always; bf16.check_grad_overflow; fp32: no
  LossScaleConfig loss_scale;                        // fp16 only
  std::optional<OptimizerConfig> optimizer;          // empty: the program gives one
  SchedulerConfig scheduler;
  ZeroConfig zero;
  AioConfig aio;

  std::vector<std::string> warnings;  // for the program to show once, on rank 0
};

// What the file leaves to the program: world size for the batch triangle, and values for "auto". An "auto"
// that nothing here answers gets the default of its key.
struct ConfigContext {
  int data_parallel_world_size = 1;
  bool strict = false;  // unknown top-level keys are errors
  std::optional<std::int64_t> micro_batch_size;
  std::optional<std::int64_t> gradient_accumulation_steps;
  std::optional<double> gradient_clipping;
  std::optional<double> lr;
  std::optional<double> weight_decay;
  std::optional<std::int64_t> hidden_size;  // reduce_bucket_size: h * h
  std::optional<std::int64_t> total_num_steps;
  std::optional<std::int64_t> warmup_num_steps;
  std::optional<DType> dtype;  // fp16.enabled / bf16.enabled: "auto"
};

// `source` names the text in messages, for example the file's path.
Config parse_config(std::string_view text, std::string_view source, const ConfigContext& context);

// `path_or_base64`: a file, or the urlsafe-base64 form of the JSON text.
Config load_config(const std::string& path_or_base64, const ConfigContext& context);

}  // namespace deepscale
