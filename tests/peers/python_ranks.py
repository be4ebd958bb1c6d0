"""Scripts of other people's users, unchanged, under `deepscale launch`: torch.distributed and DeepSpeed on the CPU.

usage: python_ranks.py DEEPSCALE torch|deepspeed
Ends with 77, and says why, where no interpreter has that module (DEEPSCALE_TORCH_PYTHON names one).
"""
import json
import os
import re
import sys
import tempfile
import unittest

import peer

DEEPSCALE = os.path.abspath(sys.argv[1])
MODULE = sys.argv[2]

TORCH_SCRIPT = """
import argparse, os
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int, default=-1)
parser.add_argument("--fail-once", action="store_true")
args = parser.parse_args()
assert args.local_rank == int(os.environ["LOCAL_RANK"])

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
dist.barrier()
if args.fail_once and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and rank == 1:
    raise ValueError("the first time fails")
torch.manual_seed(rank)
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
pair = dist.new_group(list(range(world)))
values = [None] * world
dist.all_gather_object(values, round(sum(p.sum().item() for p in model.parameters()), 5), group=pair)
assert len(set(values)) == 1, values
print(f"rank {rank} of {world} agrees")
dist.destroy_process_group()
"""

DEEPSPEED_SCRIPT = """
import argparse
import deepspeed, torch

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int, default=-1)
parser = deepspeed.add_config_arguments(parser)
args = parser.parse_args()

deepspeed.init_distributed()
torch.manual_seed(7)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
engine, optimizer, _, _ = deepspeed.initialize(args=args, model=model, model_parameters=model.parameters())
rank, world = deepspeed.comm.get_rank(), deepspeed.comm.get_world_size()
generator = torch.Generator().manual_seed(100 + rank)
for step in range(5):
    inputs = torch.randn(4, 8, generator=generator)
    loss = engine(inputs).square().mean()
    engine.backward(loss)
    engine.step()
total = torch.tensor([sum(p.double().sum().item() for p in engine.module.parameters())], dtype=torch.float64)
low, high = total.clone(), total.clone()
deepspeed.comm.all_reduce(low, op=deepspeed.comm.ReduceOp.MIN)
deepspeed.comm.all_reduce(high, op=deepspeed.comm.ReduceOp.MAX)
assert torch.equal(low, high), (low, high)
print(f"RESULT rank {rank} of {world}: loss {loss.item():.6f}, parameters {total.item():.6f}")
"""
DEEPSPEED_CONFIG = {"train_micro_batch_size_per_gpu": 4, "optimizer": {"type": "Adam", "params": {"lr": 0.01, "torch_adam": True}},
                    "zero_optimization": {"stage": 1}}


# On a busy machine torch 2.15 now and then aborts so when a process that has used gloo ends, after the script's last line.
TORCH_ABORT = "terminate called without an active exception"


class Scripts(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.python, _ = peer.python_with(MODULE)

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def launch(self, *words):
        """Under deepscale, in the venv of the interpreter as if it were activated."""
        folder = os.path.dirname(self.python)
        cache = os.path.join(os.path.dirname(os.path.dirname(folder)), "torch_ext")  # what DeepSpeed has compiled already
        variables = {"TORCH_EXTENSIONS_DIR": cache} if os.path.isdir(cache) else {}
        variables |= {"VIRTUAL_ENV": os.path.dirname(folder), "PATH": folder + ":" + os.environ["PATH"], "DS_ACCELERATOR": "cpu",
                      "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        for _ in range(3):
            result = peer.run([DEEPSCALE, "launch", "--no_tag_output", *words], 240, **variables)
            if TORCH_ABORT not in result.stderr:
                break
        return result


@unittest.skipUnless(MODULE == "torch", "not asked for")
class TorchScripts(Scripts):
    def test_ddp(self):
        result = self.launch("-q", "--num_gpus", "2", self.write("train.py", TORCH_SCRIPT))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(sorted(result.stdout.splitlines()), ["rank 0 of 2 agrees", "rank 1 of 2 agrees"])

    def test_a_restart_meets_anew(self):
        result = self.launch("--max_restarts", "1", "--num_gpus", "2", self.write("train.py", TORCH_SCRIPT), "--fail-once")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(sorted(result.stdout.splitlines()), ["rank 0 of 2 agrees", "rank 1 of 2 agrees"])
        self.assertIn("ValueError: the first time fails", result.stderr)

    def test_as_a_module(self):
        self.write("train_module.py", TORCH_SCRIPT)
        result = self.launch("-q", "--env", f"PYTHONPATH={self.folder.name}", "--num_gpus", "2", "--module", "train_module")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(sorted(result.stdout.splitlines()), ["rank 0 of 2 agrees", "rank 1 of 2 agrees"])


@unittest.skipUnless(MODULE == "deepspeed", "not asked for")
class DeepSpeedScripts(Scripts):
    def test_init_distributed_and_initialize(self):
        config = self.write("ds_config.json", json.dumps(DEEPSPEED_CONFIG))
        words = [self.write("train.py", DEEPSPEED_SCRIPT), "--deepspeed", "--deepspeed_config", config]
        result = self.launch("--num_gpus", "2", *words)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        results = sorted(re.findall(r"RESULT rank (\d) of 2: loss \d+\.\d+, parameters (.*)", result.stdout))
        self.assertEqual([rank for rank, _ in results], ["0", "1"], result.stdout)
        self.assertEqual(results[0][1], results[1][1], "both ranks have the same model")


if __name__ == "__main__":
    python, why_not = peer.python_with(MODULE)
    if not python:
        peer.skip_all(why_not)
    peer.main("__main__")
