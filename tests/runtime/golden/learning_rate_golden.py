"""Writes learning_rate_golden.inc: what DeepSpeed's own schedulers yield, for learning_rate_test.cc.

Usage: pip download deepspeed==0.19.8 --no-deps --no-binary :all:, unpack it, then
       python3 learning_rate_golden.py <unpacked>/deepspeed/runtime/lr_schedules.py > learning_rate_golden.inc
Needs neither torch nor an installed deepspeed: the few names that the module imports are stood in for. As in DeepSpeed's engine,
the optimizer takes its step first and the schedule moves after it.
"""
import importlib.util
import logging
import sys
import types


class Optimizer:
    def __init__(self, lr):
        self.defaults = {"lr": lr, "betas": (0.9, 0.999)}
        self.param_groups = [dict(self.defaults)]


def stand_in(name, **attributes):
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


stand_in("torch", is_tensor=lambda value: False)
stand_in("torch.optim", Optimizer=Optimizer)
stand_in("deepspeed")
stand_in("deepspeed.utils", logger=logging.getLogger("deepspeed"))
logging.disable(logging.CRITICAL)
spec = importlib.util.spec_from_file_location("lr_schedules", sys.argv[1])
schedules = importlib.util.module_from_spec(spec)
spec.loader.exec_module(schedules)

BASE_LR = 0.02
CASES = {
    "warmup_log": ("WarmupLR", dict(warmup_min_lr=1e-5, warmup_max_lr=1e-3, warmup_num_steps=10), 14),
    "warmup_linear": ("WarmupLR", dict(warmup_min_lr=0.0, warmup_num_steps=5, warmup_type="linear"), 9),
    "warmup_one_step": ("WarmupLR", dict(warmup_max_lr=1e-3, warmup_num_steps=1), 5),
    "decay_log": ("WarmupDecayLR", dict(total_num_steps=20, warmup_min_lr=1e-4, warmup_max_lr=1e-2, warmup_num_steps=6), 24),
    "decay_linear": ("WarmupDecayLR", dict(total_num_steps=10, warmup_max_lr=1e-2, warmup_num_steps=4, warmup_type="linear"), 14),
    "decay_too_short": ("WarmupDecayLR", dict(total_num_steps=3, warmup_max_lr=1e-2, warmup_num_steps=6), 10),
    "cosine": ("WarmupCosineLR", dict(total_num_steps=20, warmup_min_ratio=0.1, warmup_num_steps=5, cos_min_ratio=0.01), 24),
    "cosine_linear": ("WarmupCosineLR", dict(total_num_steps=12, warmup_num_steps=4, warmup_type="linear"), 16),
    "cosine_too_short": ("WarmupCosineLR", dict(total_num_steps=3, warmup_num_steps=4), 8),
    "one_cycle": ("OneCycle", dict(cycle_min_lr=0.01, cycle_max_lr=0.1, cycle_first_step_size=4), 12),
    "one_cycle_stairs": ("OneCycle", dict(cycle_min_lr=0.01, cycle_max_lr=0.1, cycle_first_step_size=7, cycle_second_step_size=11,
                                          cycle_first_stair_count=3, cycle_second_stair_count=4), 24),
    "one_cycle_decay": ("OneCycle", dict(cycle_min_lr=0.01, cycle_max_lr=0.1, decay_lr_rate=0.5, cycle_first_step_size=3,
                                         cycle_second_step_size=5, decay_step_size=2, cycle_min_mom=0.85, cycle_max_mom=0.99,
                                         decay_mom_rate=0.001), 16),
    "one_cycle_rise_only": ("OneCycle", dict(cycle_min_lr=0.01, cycle_max_lr=0.1, cycle_first_step_size=3,
                                             cycle_second_step_size=0, cycle_momentum=False), 7),
    "range_test": ("LRRangeTest", dict(lr_range_test_min_lr=1e-4, lr_range_test_step_size=5, lr_range_test_step_rate=2.0), 13),
    "range_test_staircase": ("LRRangeTest", dict(lr_range_test_min_lr=1e-4, lr_range_test_step_size=5,
                                                 lr_range_test_step_rate=2.0, lr_range_test_staircase=True), 13),
}

print("// Written by learning_rate_golden.py from deepspeed 0.19.8; not by hand.")
for name, (kind, arguments, steps) in CASES.items():
    optimizer = Optimizer(BASE_LR)
    schedule = getattr(schedules, kind)(optimizer, **arguments)
    rates, momenta = [], []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"][0])
        schedule.step()
    cycles_momentum = kind == "OneCycle" and arguments.get("cycle_momentum", True)
    print(f'{{"{name}",\n {{{", ".join(map(repr, rates))}}},\n {{{", ".join(map(repr, momenta)) if cycles_momentum else ""}}}}},')
