// What observes a run: monitors, timers, the communication logger; and activation checkpointing, of which a
// file says only where the activations go.
#include "runtime/config/sections.h"

namespace deepscale {
namespace {

using enum ValueType;

void read_monitor(const Value& section, MonitorConfig& monitor) {
  section.read_section({
      {"enabled", boolean(monitor.enabled)},
      {"output_path", text(monitor.output_path)},
      {"job_name",
       [&](const Value& value) {
         monitor.job_name = value.as_text();
         if (monitor.job_name.empty()) value.fail("a job needs a name; it is a folder of the output");
       }},
  });
}

void read_comms_logger(const Value& section, CommsLoggerConfig& logger) {
  section.read_section({
      {"enabled", boolean(logger.enabled)},
      {"verbose", boolean(logger.verbose)},
      {"prof_all", boolean(logger.prof_all)},
      {"debug", accepted(kBool)},
      {"prof_ops",
       [&](const Value& value) {
         for (const Value& name : value.as_list()) logger.prof_ops.push_back(name.as_text());
       }},
  });
}

void read_flops_profiler(const Value& section, FlopsProfilerConfig& profiler) {
  section.read_section({
      {"enabled", boolean(profiler.enabled)},
      {"profile_step", integer(profiler.profile_step, 0)},
      {"detailed", boolean(profiler.detailed)},
      {"output_file", text(profiler.output_file)},
      {"recompute_fwd_factor", accepted(kNumber)},
      {"module_depth", accepted(kInteger)},
      {"top_modules", accepted(kInteger)},
  });
}

void read_activation_checkpointing(const Value& section, Config& config) {
  section.read_section({
      {"partition_activations", off_only("partitioned activation checkpointing")},
      {"cpu_checkpointing", boolean(config.cpu_checkpointing)},
      {"contiguous_memory_optimization", off_only("activation checkpointing in contiguous memory")},
      {"number_checkpoints", accepted(kInteger)},
      {"synchronize_checkpoint_boundary", accepted(kBool)},
      {"profile", accepted(kBool)},
  });
}

}  // namespace

std::vector<Key> observer_keys(Config& config) {
  return {
      {"wall_clock_breakdown", boolean(config.wall_clock_breakdown)},
      {"csv_monitor", [&](const Value& section) { read_monitor(section, config.csv_monitor); }},
      {"tensorboard", [&](const Value& section) { read_monitor(section, config.tensorboard); }},
      {"comms_logger", [&](const Value& section) { read_comms_logger(section, config.comms_logger); }},
      {"flops_profiler", [&](const Value& section) { read_flops_profiler(section, config.flops_profiler); }},
      {"activation_checkpointing",
       [&](const Value& section) { read_activation_checkpointing(section, config); }},
  };
}

}  // namespace deepscale
