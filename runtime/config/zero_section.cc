// zero_optimization and its offload sections.
#include <cmath>

#include "runtime/config/sections.h"

namespace deepscale {
namespace {

using enum ValueType;

// DeepSpeed knows these keys under two names.
Key stage3_key(const std::string& name, ValueType type) {
  return {name, accepted(type), {"stage3_" + name}};
}

ValueReader offload_device(OffloadConfig& offload) {
  return choice(
      offload.device,
      {{"none", OffloadDevice::kNone}, {"cpu", OffloadDevice::kCpu}, {"nvme", OffloadDevice::kNvme}});
}

ValueReader only_one(std::string feature) {
  return [feature = std::move(feature)](const Value& value) {
    if (value.as_number(0.0, kAnyNumber) > 1.0) value.not_here(feature);
  };
}

void check_nvme_path(const Value& section, const OffloadConfig& offload) {
  if (offload.device != OffloadDevice::kNvme || !offload.nvme_path.empty()) return;
  section.fail("device \"nvme\" needs an nvme_path: a folder on the drive");
}

void read_offload_param(const Value& section, OffloadConfig& offload) {
  section.read_section({
      {"device", offload_device(offload)},
      {"nvme_path", text(offload.nvme_path)},
      {"pin_memory", boolean(offload.pin_memory)},
      {"buffer_count", accepted(kInteger)},
      {"buffer_size", accepted(kInteger)},
      {"max_in_cpu", accepted(kInteger)},
  });
  check_nvme_path(section, offload);
}

void read_offload_optimizer(const Value& section, OffloadConfig& offload) {
  section.read_section({
      {"device", offload_device(offload)},
      {"nvme_path", text(offload.nvme_path)},
      {"pin_memory", boolean(offload.pin_memory)},
      {"buffer_count", accepted(kInteger)},
      {"pipeline_read", accepted(kBool)},
      {"pipeline_write", accepted(kBool)},
      {"pipeline", accepted(kBool)},
      {"fast_init", accepted(kBool)},
      {"ratio", [&](const Value& value) { offload.ratio = value.as_number(0.0, 1.0); }},
      {"super_offload", off_only("super_offload")},
      {"cpuadam_cores_perc", accepted(kNumber)},
  });
  check_nvme_path(section, offload);
}

// Deprecated switches: cpu_offload is offload_optimizer.device = cpu.
ValueReader legacy_cpu_offload(const Value& section, std::string section_name, OffloadConfig& offload) {
  return [section, section_name = std::move(section_name), &offload](const Value& value) {
    if (!value.as_bool()) return;
    if (section.find(section_name))
      value.fail("means the same as " + section_name + ", which is there too; remove one");
    offload.device = OffloadDevice::kCpu;
    value.warn("deprecated; use \"" + section_name + "\": {\"device\": \"cpu\"}");
  };
}

// Accelerate's rule for "auto".
std::optional<std::int64_t> hidden_size_squared(const ConfigContext& context) {
  if (!context.hidden_size) return std::nullopt;
  return *context.hidden_size * *context.hidden_size;
}

// Accelerate's rules for "auto", with h for the hidden size.
std::vector<Key> gather_keys(const ConfigContext& context, ZeroConfig& zero) {
  std::optional<std::int64_t> prefetch, threshold;
  if (context.hidden_size) {
    prefetch = *hidden_size_squared(context) * 9 / 10;
    threshold = *context.hidden_size * 10;
  }
  return {
      {"prefetch_bucket_size",
       integer(zero.prefetch_bucket_size, 0),
       {"stage3_prefetch_bucket_size"},
       answer(zero.prefetch_bucket_size, prefetch)},
      {"param_persistence_threshold",
       integer(zero.param_persistence_threshold, 0),
       {"stage3_param_persistence_threshold"},
       answer(zero.param_persistence_threshold, threshold)},
      {"max_live_parameters", integer(zero.max_live_parameters, 0), {"stage3_max_live_parameters"}},
      {"max_reuse_distance", integer(zero.max_reuse_distance, 0), {"stage3_max_reuse_distance"}},
  };
}

std::vector<Key> partition_keys(const Value& section, ZeroConfig& zero, std::optional<bool>& overlap_comm) {
  return {
      {"stage", integer(zero.stage, 0, 3)},
      {"reduce_bucket_size",
       integer(zero.reduce_bucket_size, 1),
       {},
       answer(zero.reduce_bucket_size, hidden_size_squared(section.context()))},
      {"allgather_bucket_size", integer(zero.allgather_bucket_size, 0)},
      {"overlap_comm", [&](const Value& value) { overlap_comm = value.as_bool(); }},
      {"ignore_unused_parameters", boolean(zero.ignore_unused_parameters)},
      {"sub_group_size", integer(zero.sub_group_size, 1)},
      {"gather_16bit_weights_on_model_save",
       boolean(zero.gather_16bit_weights_on_model_save),
       {"stage3_gather_16bit_weights_on_model_save", "stage3_gather_fp16_weights_on_model_save"}},
      {"offload_param", [&](const Value& value) { read_offload_param(value, zero.offload_param); }},
      {"offload_optimizer",
       [&](const Value& value) { read_offload_optimizer(value, zero.offload_optimizer); }},
      {"cpu_offload", legacy_cpu_offload(section, "offload_optimizer", zero.offload_optimizer)},
      {"cpu_offload_param", legacy_cpu_offload(section, "offload_param", zero.offload_param)},
  };
}

// How DeepSpeed reaches the same result.
std::vector<Key> keys_without_effect() {
  std::vector<Key> keys;
  for (const char* name :
       {"contiguous_gradients", "reduce_scatter", "use_multi_rank_bucket_allreduce", "allgather_partitions",
        "load_from_fp32_weights", "elastic_checkpoint", "legacy_stage1", "round_robin_gradients",
        "parameter_alignment", "compute_grad_norm", "cpu_offload_use_pin_memory", "memory_efficient_linear",
        "pipeline_loading_checkpoint", "override_module_apply", "log_trace_cache_warnings",
        "enable_sanity_checks", "save_muon_momentum_buffer_in_memory"}) {
    keys.push_back({name, accepted(kBool)});
  }
  for (const char* name : {"model_persistence_threshold", "module_granularity_threshold"}) {
    keys.push_back(stage3_key(name, kInteger));
  }
  for (const char* name : {"use_all_reduce_for_fetch_params", "allgather_sequential"})
    keys.push_back(stage3_key(name, kBool));
  keys.push_back({"leaf_module", accepted(kObject)});
  return keys;
}

std::vector<Key> keys_of_missing_features() {
  return {
      {"zero_hpz_partition_size", only_one("the secondary partition of ZeRO++ (hpZ)")},
      {"zero_quantized_weights", off_only("quantized weight gathering (ZeRO++ qwZ)")},
      {"zero_quantized_nontrainable_weights", off_only("quantized storage of frozen weights")},
      {"zero_quantized_gradients", off_only("quantized gradient reduction (ZeRO++ qgZ)")},
      {"zeropp_loco_param", [](const Value& value) { value.not_here("LoCo-Zero++"); }},
      {"mics_shard_size",
       [](const Value& value) {
         if (value.as_integer(-1, kAnyInteger) > 0) value.not_here("MiCS sharding");
       }},
      {"mics_hierarchical_params_gather", off_only("MiCS sharding")},
      {"zenflow", [](const Value& value) { value.not_here("ZenFlow"); }},
  };
}

}  // namespace

void read_zero_optimization(const Value& section, ZeroConfig& zero) {
  if (section.is(kBool)) {  // the oldest form of the file
    zero.stage = section.as_bool() ? 1 : 0;
    section.warn("deprecated; use {\"stage\": " + std::to_string(zero.stage) + "}");
    return;
  }
  std::optional<bool> overlap_comm;
  std::vector<Key> keys = partition_keys(section, zero, overlap_comm);
  for (Key& key : gather_keys(section.context(), zero)) keys.push_back(std::move(key));
  for (Key& key : keys_without_effect()) keys.push_back(std::move(key));
  for (Key& key : keys_of_missing_features()) keys.push_back(std::move(key));
  section.read_section(keys);
  zero.overlap_comm = overlap_comm.value_or(zero.stage == 3);
  if (zero.stage < 3 && zero.offload_optimizer.ratio < 1.0)
    section.fail("offload_optimizer.ratio below 1 needs stage 3; set \"stage\": 3, or remove the ratio");
  if (zero.stage < 3 && zero.offload_param.device != OffloadDevice::kNone)
    section.warn("offload_param has no effect below stage 3");
}

}  // namespace deepscale
