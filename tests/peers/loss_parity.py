"""100 steps of training from the same weights on the same tokens: two ranks of ours at stages 1, 2 and 3, DeepSpeed at the same stages, and FSDP2.

usage: loss_parity.py TRAINING_PEER DEEPSCALE [unittest arguments]
Runs itself with the interpreter that DEEPSCALE_TORCH_PYTHON names, else that of /tmp/deepscale-peers, else python3. Ends with 77, and says why, where that has no
transformers or no DeepSpeed.
"""
import json
import os
import pathlib
import re
import sys
import tempfile
import unittest

import peer
from models_interop import run_with_transformers

STEPS, RANKS, BATCH, SEQUENCE = 100, 2, 2, 32
OPTIMIZER = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
# Relative, of every step's loss. TRAINING_PEER takes its products from the same library as the others: another one's rounding grows to 1 % in 100 steps of Adam.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.03}


def make_inputs(folder):
    """A small OPT, and tokens that can be learnt: each is its predecessor and a step that its sequence has."""
    import torch
    import transformers
    from safetensors.torch import save_file
    torch.manual_seed(0)
    shape = transformers.OPTConfig(vocab_size=97, hidden_size=64, num_hidden_layers=3, ffn_dim=256, num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=64,
                                   dropout=0.0, init_std=0.1)
    transformers.OPTForCausalLM(shape).save_pretrained(folder)
    sizes = (STEPS, RANKS, BATCH, 1)
    tokens = (torch.randint(3, 97, sizes) + torch.randint(1, 5, sizes) * torch.arange(SEQUENCE)) % 97
    save_file({"tokens": tokens}, folder / "tokens.safetensors")


def ds_config(stage, dtype):
    """With torch's AdamW: DeepSpeed's own for the CPU is less exact, half a percent of the loss after 100 steps."""
    return {"train_micro_batch_size_per_gpu": BATCH, "gradient_accumulation_steps": 1, "gradient_clipping": 0.0, "optimizer": {"type": "AdamW", "params": OPTIMIZER | {"torch_adam": True}},
            "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 1000}, "bf16": {"enabled": dtype == "bf16"}, "steps_per_print": 1000000}


def train(folder, kind):
    """A rank of `kind`, "deepspeed" or "fsdp2", which torchrun starts."""
    import torch
    import torch.distributed as dist
    import transformers
    from safetensors.torch import load_file
    torch.set_num_threads(1)
    model = transformers.OPTForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    if kind == "deepspeed":
        import deepspeed
        deepspeed.init_distributed("gloo")
        engine = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=os.path.join(folder, "ds_config.json"))[0]
    else:
        from torch.distributed.fsdp import fully_shard
        dist.init_process_group("gloo")
        for layer in model.model.decoder.layers:
            fully_shard(layer)
        engine = fully_shard(model)
        optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)
    for batch in load_file(os.path.join(folder, "tokens.safetensors"))["tokens"][:, dist.get_rank()]:
        loss = engine(input_ids=batch, labels=batch).loss
        if kind == "deepspeed":
            engine.backward(loss)
            engine.step()
        else:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.detach().float() / RANKS
        dist.all_reduce(mean)
        if dist.get_rank() == 0:
            print(f"loss {mean.item():.6f}", flush=True)
    dist.destroy_process_group()


class LossParity(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        make_inputs(self.folder)

    def losses(self, *command):
        tools = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # DeepSpeed builds its parts with ninja
        done = peer.run([str(part) for part in command], 280, PATH=tools, OMP_NUM_THREADS="1", DS_ACCELERATOR="cpu", HF_HUB_OFFLINE="1",
                        TORCH_EXTENSIONS_DIR=os.environ.get("TORCH_EXTENSIONS_DIR", os.path.join(os.path.dirname(os.path.dirname(peer.PEERS)), "torch_ext")))
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-3000:])
        losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", done.stdout)]
        self.assertEqual(len(losses), STEPS)
        return losses

    def ours(self):
        return self.losses(DEEPSCALE, "launch", "--num_gpus", RANKS, TRAINING_PEER, self.folder, self.folder / "tokens.safetensors", self.folder / "ds_config.json")

    def theirs(self, kind):
        return self.losses(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", RANKS, "--master_port", peer.free_port(), os.path.abspath(__file__), "--rank",
                           self.folder, kind)

    def compare(self, name, ours, theirs, tolerance):
        worst = max(abs(a - b) / b for a, b in zip(ours, theirs))
        print(f"{name}: first loss {ours[0]:.4f}, last {ours[-1]:.4f} and {theirs[-1]:.4f}, largest difference of a step {worst:.1e}", flush=True)
        self.assertLess(worst, tolerance, name)
        self.assertLess(ours[-1], 0.7 * ours[0], "there was nothing to learn")

    def test_against_deepspeed(self):
        for stage, dtype in (1, "fp32"), (2, "fp32"), (3, "fp32"), (2, "bf16"), (3, "bf16"):
            with self.subTest(stage=stage, dtype=dtype):
                (self.folder / "ds_config.json").write_text(json.dumps(ds_config(stage, dtype)))
                self.compare(f"DeepSpeed, stage {stage}, {dtype}", self.ours(), self.theirs("deepspeed"), TOLERANCE[dtype])

    def test_against_fsdp2(self):
        (self.folder / "ds_config.json").write_text(json.dumps(ds_config(3, "fp32")))
        self.compare("FSDP2, fp32", self.ours(), self.theirs("fsdp2"), TOLERANCE["fp32"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        train(*sys.argv[2:])
        sys.exit()
    run_with_transformers()
    TRAINING_PEER, DEEPSCALE = (os.path.abspath(sys.argv.pop(1)) for _ in range(2))
    try:
        import deepspeed
    except ImportError:
        peer.skip_all(f"{sys.executable} has no deepspeed")
    unittest.main(verbosity=2)
