// Every key that DeepSpeed knows is known here (shared with docs/ds_config.md: the lists are those of its
// tables), and each feature that is not in this version is refused, or warned of, when switched on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/runtime/config_fixture.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing_config::parse_members;
using testing_config::refusal_of;

// Members that stand around the section in question, by the section's path; "" is the top level. null is "not
// there", and so asks of a key just that it is known.
const std::map<std::string, std::vector<std::string>> kKeys = {
    {"",
     {"train_micro_batch_size_per_gpu",
      "gradient_accumulation_steps",
      "managed_gradient_accumulation",
      "gradient_clipping",
      "steps_per_print",
      "wall_clock_breakdown",
      "memory_breakdown",
      "dump_state",
      "prescale_gradients",
      "gradient_predivide_factor",
      "gradient_allreduce_op",
      "sparse_gradients",
      "disable_allgather",
      "communication_data_type",
      "seq_parallel_communication_data_type",
      "zero_allow_untested_optimizer",
      "zero_force_ds_cpu_optimizer",
      "dataloader_drop_last",
      "graph_harvesting",
      "log_level",
      "use_data_before_expert_parallelism",
      "sequence_parallel_size",
      "vocabulary_size",
      "disable_python_gc",
      "optimizer",
      "scheduler",
      "fp16",
      "bf16",
      "torch_autocast",
      "amp",
      "data_types",
      "zero_optimization",
      "allgather_size",
      "aio",
      "activation_checkpointing",
      "tensor_parallel",
      "expert_parallel",
      "pipeline",
      "checkpoint",
      "tensorboard",
      "csv_monitor",
      "wandb",
      "comet",
      "flops_profiler",
      "comms_logger",
      "timers",
      "elasticity",
      "autotuning",
      "compile",
      "hybrid_engine",
      "weight_quantization",
      "curriculum_learning",
      "data_efficiency",
      "progressive_layer_drop",
      "eigenvalue",
      "sparse_attention",
      "compression_training",
      "quantize_training",
      "nebula",
      "datastates"}},
    {"fp16",
     {"enabled", "auto_cast", "loss_scale", "initial_scale_power", "loss_scale_window", "hysteresis",
      "consecutive_hysteresis", "min_loss_scale", "fp16_master_weights_and_grads"}},
    {"bf16",
     {"enabled", "immediate_grad_update", "check_grad_overflow", "bf16_master_weights_and_grads",
      "bf16_optimizer_states"}},
    {"data_types", {"grad_accum_dtype", "param_dtype", "buffer_dtype", "keep_in_fp32_modules"}},
    {"zero_optimization",
     {"stage",
      "contiguous_gradients",
      "reduce_scatter",
      "reduce_bucket_size",
      "use_multi_rank_bucket_allreduce",
      "allgather_partitions",
      "allgather_bucket_size",
      "overlap_comm",
      "compute_grad_norm",
      "load_from_fp32_weights",
      "elastic_checkpoint",
      "offload_param",
      "offload_optimizer",
      "zenflow",
      "sub_group_size",
      "cpu_offload_param",
      "cpu_offload_use_pin_memory",
      "cpu_offload",
      "prefetch_bucket_size",
      "param_persistence_threshold",
      "model_persistence_threshold",
      "max_live_parameters",
      "max_reuse_distance",
      "gather_16bit_weights_on_model_save",
      "module_granularity_threshold",
      "use_all_reduce_for_fetch_params",
      "allgather_sequential",
      "ignore_unused_parameters",
      "legacy_stage1",
      "round_robin_gradients",
      "parameter_alignment",
      "zero_hpz_partition_size",
      "zero_quantized_weights",
      "zero_quantized_nontrainable_weights",
      "zero_quantized_gradients",
      "zeropp_loco_param",
      "mics_shard_size",
      "mics_hierarchical_params_gather",
      "memory_efficient_linear",
      "pipeline_loading_checkpoint",
      "override_module_apply",
      "log_trace_cache_warnings",
      "enable_sanity_checks",
      "save_muon_momentum_buffer_in_memory",
      "leaf_module"}},
    {"zero_optimization.offload_param",
     {"device", "nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory"}},
    {"zero_optimization.offload_optimizer",
     {"device", "nvme_path", "buffer_count", "pin_memory", "pipeline_read", "pipeline_write", "fast_init",
      "ratio", "super_offload", "cpuadam_cores_perc"}},
    {"aio",
     {"block_size", "queue_depth", "intra_op_parallelism", "thread_count", "single_submit", "overlap_events",
      "use_gds"}},
    {"activation_checkpointing",
     {"partition_activations", "contiguous_memory_optimization", "cpu_checkpointing", "number_checkpoints",
      "synchronize_checkpoint_boundary", "profile"}},
    {"checkpoint",
     {"tag_validation", "load_universal", "use_node_local_storage", "parallel_write", "writer"}},
    {"tensorboard", {"enabled", "output_path", "job_name"}},
    {"wandb", {"enabled", "group", "team", "project"}},
    {"flops_profiler",
     {"enabled", "recompute_fwd_factor", "profile_step", "module_depth", "top_modules", "detailed",
      "output_file"}},
    {"comms_logger", {"enabled", "verbose", "prof_all", "debug", "prof_ops"}},
};

// "a.b" and "x": "a": {"b": {x}}.
std::string nested(const std::string& path, const std::string& members) {
  if (path.empty()) return members;
  const std::size_t dot = path.rfind('.');
  const std::string name = dot == std::string::npos ? path : path.substr(dot + 1);
  return nested(dot == std::string::npos ? "" : path.substr(0, dot), "\"" + name + "\": {" + members + "}");
}

TEST(ConfigKeys, AreAllKnown) {
  for (const auto& [path, names] : kKeys) {
    for (const std::string& name : names) {
      SCOPED_TRACE(path + "." + name);
      EXPECT_THAT(parse_members(nested(path, "\"" + name + "\": null")).warnings, IsEmpty());
    }
  }
}

TEST(ConfigKeys, OfASectionAreCheckedForTypos) {
  for (const auto& [path, names] : kKeys) {
    if (path.empty()) continue;
    const std::string members = nested(path, "\"no_such_key\": 1");
    const auto refusal = refusal_of([&] { parse_members(members); });
    EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refusal.message, HasSubstr(path + ".no_such_key: unknown key"));
  }
}

TEST(ConfigKeys, OfMissingFeaturesAreRefusedWhenSwitchedOn) {
  const std::vector<std::string> switched_on = {
      R"("amp": {"enabled": true})",
      R"("torch_autocast": {"enabled": true})",
      R"("elasticity": {"enabled": true})",
      R"("curriculum_learning": {"enabled": true})",
      R"("data_efficiency": {"enabled": true})",
      R"("progressive_layer_drop": {"enabled": true})",
      R"("eigenvalue": {"enabled": true})",
      R"("quantize_training": {"enabled": true})",
      R"("nebula": {"enabled": true})",
      R"("expert_parallel": {"enabled": true})",
      R"("hybrid_engine": {"enabled": true})",
      R"("compile": {"deepcompile": true})",
      R"("sparse_attention": {"mode": "fixed"})",
      R"("compression_training": {"weight_quantization": {}})",
      R"("weight_quantization": {"post_init_quant": {}})",
      R"("tensor_parallel": {"autotp_size": 2})",
      R"("tensor_parallel": {"tp": {"tp_size": 2}})",
      R"("sequence_parallel_size": 2)",
      R"("sparse_gradients": true)",
      R"("managed_gradient_accumulation": false)",
      R"("gradient_allreduce_op": "sum")",
      R"("checkpoint": {"load_universal": true})",
      R"("checkpoint": {"use_node_local_storage": true})",
      R"("aio": {"use_gds": true})",
      R"("activation_checkpointing": {"partition_activations": true})",
      R"("activation_checkpointing": {"contiguous_memory_optimization": true})",
      R"("fp16": {"fp16_master_weights_and_grads": true})",
      R"("bf16": {"bf16_master_weights_and_grads": true})",
      R"("bf16": {"bf16_optimizer_states": true})",
      R"("data_types": {"param_dtype": "bf16"})",
      R"("data_types": {"keep_in_fp32_modules": ["norm"]})",
      R"("optimizer": {"type": "Adam", "params": {"fp32_optimizer_states": false}})",
      R"("zero_optimization": {"offload_optimizer": {"super_offload": true}})",
      R"("zero_optimization": {"zero_hpz_partition_size": 8})",
      R"("zero_optimization": {"zero_quantized_gradients": true})",
      R"("zero_optimization": {"zero_quantized_nontrainable_weights": true})",
      R"("zero_optimization": {"mics_shard_size": 4})",
      R"("zero_optimization": {"mics_hierarchical_params_gather": true})",
      R"("zero_optimization": {"zeropp_loco_param": {"err_beta": 0.8}})",
      R"("zero_optimization": {"zenflow": {"topk_ratio": 0.1}})",
  };
  for (const std::string& members : switched_on) {
    SCOPED_TRACE(members);
    const auto refusal = refusal_of([&] { parse_members(members); });
    EXPECT_EQ(refusal.code, ErrorCode::kUnsupported) << refusal.message;
    EXPECT_THAT(refusal.message, HasSubstr("is not in this version of DeepScale; "));
  }
}

TEST(ConfigKeys, OfMissingObserversAreAWarningWhenSwitchedOn) {
  for (const char* name : {"wandb", "comet", "autotuning"}) {
    const std::string section = std::string("\"") + name + "\": ";
    EXPECT_THAT(parse_members(section + R"({"enabled": true})").warnings, SizeIs(1)) << name;
    EXPECT_THAT(parse_members(section + R"({"enabled": false})").warnings, IsEmpty()) << name;
  }
  for (const char* name : {"memory_breakdown", "dump_state"}) {
    EXPECT_THAT(parse_members(std::string("\"") + name + "\": true").warnings, SizeIs(1)) << name;
  }
}

TEST(ConfigKeys, OfObserversAreRead) {
  const Config config = parse_members(R"("wall_clock_breakdown": true,
      "csv_monitor": {"enabled": true, "output_path": "out", "job_name": "bert"},
      "tensorboard": {"enabled": true},
      "comms_logger": {"enabled": true, "verbose": true, "prof_all": false, "prof_ops": ["all_reduce"]},
      "flops_profiler": {"enabled": true, "profile_step": 5, "detailed": false, "output_file": "flops.txt",
                         "module_depth": -1, "top_modules": 3, "recompute_fwd_factor": 0.0},
      "activation_checkpointing": {"cpu_checkpointing": true},
      "deepscale": {"share_parameters_on_host": true},
      "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true})");
  EXPECT_THAT(config.warnings, IsEmpty());
  EXPECT_TRUE(config.wall_clock_breakdown);
  EXPECT_TRUE(config.csv_monitor.enabled);
  EXPECT_EQ(config.csv_monitor.output_path, "out");
  EXPECT_EQ(config.csv_monitor.job_name, "bert");
  EXPECT_TRUE(config.tensorboard.enabled);
  EXPECT_EQ(config.tensorboard.job_name, "DeepSpeedJobName");
  EXPECT_TRUE(config.comms_logger.enabled && config.comms_logger.verbose && !config.comms_logger.prof_all);
  EXPECT_EQ(config.comms_logger.prof_ops, (std::vector<std::string>{"all_reduce"}));
  EXPECT_TRUE(config.flops_profiler.enabled && !config.flops_profiler.detailed);
  EXPECT_EQ(config.flops_profiler.profile_step, 5);
  EXPECT_EQ(config.flops_profiler.output_file, "flops.txt");
  EXPECT_TRUE(config.cpu_checkpointing);
  EXPECT_TRUE(config.deepscale.share_parameters_on_host);
  EXPECT_TRUE(config.zero.gather_16bit_weights_on_model_save);
}

}  // namespace
}  // namespace deepscale
