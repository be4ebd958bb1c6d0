// scheduler: its type, and the parameters that the type takes.
#include "runtime/config/sections.h"

namespace deepscale {
namespace {

using enum ValueType;

std::vector<Key> warmup_keys(const ConfigContext& context, SchedulerConfig& scheduler) {
  return {
      {"warmup_num_steps",
       integer(scheduler.warmup_num_steps, 0),
       {},
       answer(scheduler.warmup_num_steps, context.warmup_num_steps)},
      {"warmup_type", choice(scheduler.warmup_linear, {{"log", false}, {"linear", true}})},
  };
}

std::vector<Key> warmup_lr_keys(const ConfigContext& context, SchedulerConfig& scheduler) {
  std::vector<Key> keys = warmup_keys(context, scheduler);
  keys.push_back({"warmup_min_lr", number(scheduler.warmup_min_lr, 0.0)});
  keys.push_back({"warmup_max_lr", number(scheduler.warmup_max_lr, 0.0), {}, [&] {
                    scheduler.warmup_max_lr = context.lr;
                  }});
  return keys;
}

Key total_num_steps_key(const ConfigContext& context, SchedulerConfig& scheduler) {
  return {"total_num_steps",
          integer(scheduler.total_num_steps, 1),
          {},
          answer(scheduler.total_num_steps, context.total_num_steps)};
}

void require_total_num_steps(const Value& params, const SchedulerConfig& scheduler) {
  if (scheduler.total_num_steps > 0) return;
  const char* reason =
      params.has("total_num_steps") ? "is \"auto\", and the program does not know it" : "is required";
  params.member_or_empty("total_num_steps")
      .fail(std::string(reason) + "; give the number of optimizer steps of the whole run");
}

void read_warmup_decay(const Value& params, SchedulerConfig& scheduler) {
  scheduler.warmup_max_lr = 1e-3;
  std::vector<Key> keys = warmup_lr_keys(params.context(), scheduler);
  keys.push_back(total_num_steps_key(params.context(), scheduler));
  params.read_section(keys);
  require_total_num_steps(params, scheduler);
}

void read_warmup_cosine(const Value& params, SchedulerConfig& scheduler) {
  std::vector<Key> keys = warmup_keys(params.context(), scheduler);
  keys.push_back(total_num_steps_key(params.context(), scheduler));
  keys.push_back({"warmup_min_ratio", number(scheduler.warmup_min_ratio, 0.0)});
  keys.push_back({"cos_min_ratio", number(scheduler.cos_min_ratio, 0.0)});
  params.read_section(keys);
  require_total_num_steps(params, scheduler);
}

void read_one_cycle(const Value& params, SchedulerConfig& scheduler) {
  params.read_section({
      {"cycle_min_lr", number(scheduler.cycle_min_lr, 0.0)},
      {"cycle_max_lr", number(scheduler.cycle_max_lr, 0.0)},
      {"cycle_first_step_size", integer(scheduler.cycle_first_step_size, 1)},
      {"cycle_second_step_size", integer(scheduler.cycle_second_step_size, 0)},
      {"cycle_first_stair_count", integer(scheduler.cycle_first_stair_count, 0)},
      {"cycle_second_stair_count", integer(scheduler.cycle_second_stair_count, 0)},
      {"decay_step_size", integer(scheduler.decay_step_size, 0)},
      {"decay_lr_rate", number(scheduler.decay_lr_rate, 0.0)},
      {"cycle_momentum", boolean(scheduler.cycle_momentum)},
      {"cycle_min_mom", number(scheduler.cycle_min_mom, 0.0, 1.0)},
      {"cycle_max_mom", number(scheduler.cycle_max_mom, 0.0, 1.0)},
      {"decay_mom_rate", number(scheduler.decay_mom_rate, 0.0)},
  });
  for (const char* name : {"cycle_min_lr", "cycle_max_lr"}) {
    if (!params.find(name)) params.member_or_empty(name).fail("is required for OneCycle");
  }
}

void read_lr_range_test(const Value& params, SchedulerConfig& scheduler) {
  params.read_section({
      {"lr_range_test_min_lr", number(scheduler.lr_range_test_min_lr, 0.0)},
      {"lr_range_test_step_size", integer(scheduler.lr_range_test_step_size, 1)},
      {"lr_range_test_step_rate", number(scheduler.lr_range_test_step_rate, 0.0)},
      {"lr_range_test_staircase", boolean(scheduler.lr_range_test_staircase)},
  });
}

void read_params(const Value& params, SchedulerConfig& scheduler) {
  switch (scheduler.kind) {
    case SchedulerKind::kNone:
      return;
    case SchedulerKind::kWarmupLr:
      return params.read_section(warmup_lr_keys(params.context(), scheduler));
    case SchedulerKind::kWarmupDecayLr:
      return read_warmup_decay(params, scheduler);
    case SchedulerKind::kWarmupCosineLr:
      return read_warmup_cosine(params, scheduler);
    case SchedulerKind::kOneCycle:
      return read_one_cycle(params, scheduler);
    case SchedulerKind::kLrRangeTest:
      return read_lr_range_test(params, scheduler);
  }
}

}  // namespace

void read_scheduler(const Value& section, SchedulerConfig& scheduler) {
  section.read_section({
      {"type", choice(scheduler.kind, {{"WarmupLR", SchedulerKind::kWarmupLr},
                                       {"WarmupDecayLR", SchedulerKind::kWarmupDecayLr},
                                       {"WarmupCosineLR", SchedulerKind::kWarmupCosineLr},
                                       {"OneCycle", SchedulerKind::kOneCycle},
                                       {"LRRangeTest", SchedulerKind::kLrRangeTest}})},
      {"params", accepted(kObject)},
  });
  if (scheduler.kind == SchedulerKind::kNone) {
    section.warn("has no type, so it is ignored");
    return;
  }
  read_params(section.member_or_empty("params"), scheduler);
}

}  // namespace deepscale
