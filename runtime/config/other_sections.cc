// Everything else that DeepSpeed knows. Three kinds: without effect on training here; features that would
// change training and are not in this version, refused when switched on; features that only observe it, a
// warning when switched on.
#include "runtime/config/sections.h"

namespace deepscale {
namespace {

using enum ValueType;

// A section with a switch "enabled". An empty `keys` leaves its other keys unchecked.
struct SwitchedSection {
  const char* name;
  const char* feature;
  std::vector<const char*> keys = {};
};

const std::vector<SwitchedSection> kRefusedWhenEnabled = {
    {"amp", "Apex AMP (fp16 and bf16 are)"},
    {"elasticity", "elastic training"},
    {"curriculum_learning", "curriculum learning"},
    {"data_efficiency", "the data efficiency library"},
    {"progressive_layer_drop", "progressive layer drop"},
    {"eigenvalue", "eigenvalue-based quantization"},
    {"quantize_training", "quantized training"},
    {"nebula", "Nebula checkpointing"},
    {"expert_parallel", "expert parallelism"},
    {"hybrid_engine", "the hybrid engine"},
};

const std::vector<SwitchedSection> kIgnoredWhenEnabled = {
    {"wandb", "logging to Weights & Biases", {"group", "team", "project"}},
    {"comet",
     "logging to Comet",
     {"samples_log_interval", "project", "workspace", "api_key", "experiment_name", "experiment_key",
      "online", "mode"}},
    {"autotuning", "autotuning"},
};

Key switched_key(const SwitchedSection& known, const ValueReader& on_switch) {
  return {known.name, [&known, on_switch](const Value& section) {
            section.expect(kObject);
            if (known.keys.empty()) {
              if (const auto enabled = section.find("enabled")) on_switch(*enabled);
              return;
            }
            std::vector<Key> keys = {{"enabled", on_switch}};
            for (const char* name : known.keys) keys.push_back({name, accepted(kAny)});
            section.read_section(keys);
          }};
}

// A section that asks for its feature by being there.
Key refused_when_there(const char* name, const char* feature) {
  return {name, [feature](const Value& section) {
            if (!section.is_empty()) section.not_here(feature);
          }};
}

void read_aio(const Value& section, AioConfig& aio) {
  section.read_section({
      {"block_size", integer(aio.block_size, 4096, 1 << 30)},
      {"queue_depth", integer(aio.queue_depth, 1, 4096)},
      {"intra_op_parallelism", accepted(kInteger)},
      {"thread_count", accepted(kInteger)},  // its older name; DeepSpeed ignores it
      {"single_submit", accepted(kBool)},
      {"overlap_events", accepted(kBool)},
      {"use_gds", off_only("GPUDirect Storage")},
  });
}

void read_checkpoint(const Value& section) {
  section.read_section({
      {"tag_validation",
       [](const Value& value) {
         choose(value, {"WARN", "IGNORE", "FAIL"});
       }},
      {"load_universal", off_only("loading a universal checkpoint")},
      {"use_node_local_storage", off_only("a checkpoint whose files lie on the nodes' own disks")},
      {"parallel_write", accepted(kObject)},
      {"writer", accepted(kObject)},
  });
}

void read_tensor_parallel(const Value& section) {
  section.expect(kObject);
  const auto refuse_above_one = [](const std::optional<Value>& size) {
    if (size && size->as_integer(0, kAnyInteger) > 1) size->not_here("tensor parallelism");
  };
  refuse_above_one(section.find("autotp_size"));
  if (const auto tp = section.find("tp")) refuse_above_one(tp->find("tp_size"));
}

void read_compile(const Value& section) {
  section.expect(kObject);
  const auto deepcompile = section.find("deepcompile");
  if (deepcompile && deepcompile->as_bool()) deepcompile->not_here("DeepCompile");
}

std::vector<Key> keys_without_effect() {
  std::vector<Key> keys;
  for (const char* name : {"zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
                           "disable_allgather", "dataloader_drop_last", "graph_harvesting",
                           "use_data_before_expert_parallelism", "disable_python_gc"}) {
    keys.push_back({name, accepted(kBool)});
  }
  for (const char* name : {"log_level", "seq_parallel_communication_data_type"})
    keys.push_back({name, accepted(kText)});
  for (const char* name : {"allgather_size", "vocabulary_size"}) keys.push_back({name, accepted(kInteger)});
  for (const char* name : {"pipeline", "timers", "datastates"}) keys.push_back({name, accepted(kObject)});
  return keys;
}

std::vector<Key> switches() {
  return {
      {"sparse_gradients", off_only("sparse gradients")},
      {"managed_gradient_accumulation",
       [](const Value& value) {
         if (!value.as_bool()) value.not_here("gradient accumulation managed by the program");
       }},
      {"gradient_allreduce_op",
       [](const Value& value) {
         if (choose(value, {"mean", "sum"}) != 0) value.not_here("summing gradients over the ranks");
       }},
      {"sequence_parallel_size",
       [](const Value& value) {
         if (value.as_integer(0, kAnyInteger) > 1) value.not_here("sequence parallelism");
       }},
      {"memory_breakdown", off_or_warn("the memory breakdown")},
      {"dump_state", off_or_warn("dumping the engine's state")},
  };
}

}  // namespace

std::vector<Key> other_keys(AioConfig& aio) {
  std::vector<Key> keys = keys_without_effect();
  for (Key& key : switches()) keys.push_back(std::move(key));
  for (const SwitchedSection& section : kRefusedWhenEnabled)
    keys.push_back(switched_key(section, off_only(section.feature)));
  for (const SwitchedSection& section : kIgnoredWhenEnabled)
    keys.push_back(switched_key(section, off_or_warn(section.feature)));
  keys.push_back(refused_when_there("sparse_attention", "sparse attention"));
  keys.push_back(refused_when_there("compression_training", "model compression"));
  keys.push_back(refused_when_there("weight_quantization", "weight quantization"));
  keys.push_back({"aio", [&aio](const Value& section) { read_aio(section, aio); }});
  keys.push_back({"checkpoint", read_checkpoint});
  keys.push_back({"tensor_parallel", read_tensor_parallel});
  keys.push_back({"compile", read_compile});
  return keys;
}

}  // namespace deepscale
