"""Samples per second and losses of sft and bert_pretraining, beside DeepSpeed with the same weights, batches and optimizer, in turns.

usage: workloads_bench.py BUILD [--model DIR] [--only full|lora|bert ...] [--ranks N] [--turns N] [--steps N] [--stage N] [--threads N]
BUILD is a build folder with the programs; DIR a language model of Hugging Face with its tokenizer. Every step of sft has the same samples, since there are no others; they are
of one length, so that the mean over ranks is the mean over tokens. DeepSpeed's ranks are started by our launcher. What counts is the median of the ratios of
neighbouring turns, and how far the losses of all steps are apart.

Runs itself with the interpreter that DEEPSCALE_TORCH_PYTHON names, else that of /tmp/deepscale-peers, else python3.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from models_interop import run_with_transformers

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LENGTH = {"full": 64, "lora": 64, "bert": 128}
BATCH = {"full": 4, "lora": 4, "bert": 8}  # of all ranks
RATE = 1e-4
WARM_UP = 5  # steps that do not count


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done.stdout


class Workload:
    """One of them, and what both sides start from."""

    def __init__(self, kind, options, folder):
        self.kind, self.options, self.folder = kind, options, folder
        self.batch = BATCH[kind] // options.ranks
        self.bin, self.tests = pathlib.Path(options.build) / "bin", pathlib.Path(options.build) / "tests"
        self.launcher = [self.bin / "deepscale", "launch", "--num_gpus", options.ranks] if options.ranks > 1 else []
        text = SOURCE / "examples" / "bert_pretraining" / "make_data.py"
        run([sys.executable, text, folder])
        lines = (folder / "text.txt").read_text().split("\n")
        words = " ".join(lines).split()
        pieces = [words[i * 300:(i + 1) * 300] for i in range(BATCH[kind])]
        data = [{"prompt": " ".join(piece[:8]), "response": " " + " ".join(piece[8:])} for piece in pieces]
        (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in data))
        (folder / "short.jsonl").write_text('{"prompt": "a", "response": " b"}\n')
        self.start = folder / "start"
        run(self.ours(steps=1, rate=0, output=self.start))

    def ours(self, steps, rate=RATE, output=None):
        shared = ["--learning_rate", rate, "--dropout", 0, *(["--output_dir", output] if output else [])]
        if self.kind == "bert":
            return [*self.launcher, self.bin / "bert_pretraining", "--checkpoint_dir", tempfile.mkdtemp(dir=self.folder), "--data_path", self.folder / "text.txt",
                    "--tokenizer_path", self.folder, "--max_seq_length", LENGTH["bert"], "--batch_size", self.batch, "--num_iterations", steps, "--log_every", 1, "--stage",
                    self.options.stage, *shared]
        adapters = ["--lora_dim", 16, "--only_optimize_lora"] if self.kind == "lora" else []
        return [*self.launcher, self.bin / "sft", "--model_name_or_path", self.options.model, "--data_path", self.folder / "data.jsonl", "--eval_path",
                self.folder / "short.jsonl", "--max_seq_len", LENGTH[self.kind], "--loss_on_prompt", "--per_device_train_batch_size", self.batch, "--num_train_epochs", steps,
                "--lr_scheduler_type", "constant", "--zero_stage", self.options.stage, "--print_loss", *adapters, *shared]

    def run_ours(self):
        """The loss of each step, for bert that of rank 0, and samples per second."""
        output = run(self.ours(self.options.steps))
        if self.kind == "bert":
            rates, losses = re.findall(r"CurrSamplesPerSec=([0-9.]+)", output), re.findall(r"Loss: ([0-9.]+)", output)
        else:
            rates = re.findall(r"Samples/sec: ([0-9.]+)", output)
            ranks = [re.findall(rf"Rank: {rank}, loss = ([0-9.]+)", output) for rank in range(self.options.ranks)]
            losses = [statistics.mean(map(float, step)) for step in zip(*ranks, strict=True)]
        return [float(loss) for loss in losses], statistics.median(float(rate) for rate in rates[WARM_UP:])

    def run_deepspeed(self):
        output = run([*self.launcher, *([] if self.options.ranks == 1 else ["--no_python"]), sys.executable, __file__, "--rank-of", self.kind, self.options.build, "--model",
                      self.options.model, "--folder", self.folder, "--steps", self.options.steps, "--stage", self.options.stage, "--batch", self.batch])
        found = json.loads(re.search(r"(\{.*\})", output).group(1))
        return found["losses"], found["samples"]


def batches(options, rank, world):
    """Tokens and labels of every step, as ours has them."""
    import torch
    if options.rank_of == "bert":
        lines = run([pathlib.Path(options.build) / "tests" / "masked_batches", options.folder / "text.txt", options.folder, LENGTH["bert"], options.batch, options.steps, 42, rank,
                     world]).splitlines()
        return [{key: torch.tensor(values).view(options.batch, -1) for key, values in json.loads(line).items()} for line in lines]
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    lines = [json.loads(line) for line in (options.folder / "data.jsonl").read_text().splitlines()]
    samples = [(tokenizer(line["prompt"])["input_ids"] + tokenizer(line["response"], add_special_tokens=False)["input_ids"])[:LENGTH["full"]] for line in lines]
    tokens = torch.tensor(samples[rank * options.batch:(rank + 1) * options.batch])
    return [{"tokens": tokens, "labels": tokens}] * options.steps


def model_of(options):
    from transformers import AutoModelForCausalLM, BertForMaskedLM
    if options.rank_of == "bert":
        return BertForMaskedLM.from_pretrained(options.folder / "start")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32", use_cache=False)
    if options.rank_of == "full":
        return model
    import peft
    return peft.PeftModel.from_pretrained(model, options.folder / "start" / "adapter", is_trainable=True)


def rank_of_deepspeed(options):
    import deepspeed
    import torch
    for name, value in ("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29655"):
        os.environ.setdefault(name, value)
    deepspeed.init_distributed("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = model_of(options).train()
    betas = [0.9, 0.999] if options.rank_of == "bert" else [0.9, 0.95]
    config = {"train_micro_batch_size_per_gpu": options.batch, "zero_optimization": {"stage": options.stage}, "steps_per_print": 10**9, "gradient_clipping": 1.0,
              "optimizer": {"type": "AdamW", "params": {"lr": RATE, "betas": betas, "eps": 1e-8, "weight_decay": 0.0}}}
    engine = deepspeed.initialize(model=model, model_parameters=[p for p in model.parameters() if p.requires_grad], config=config)[0]
    losses, seconds = [], []
    for batch in batches(options, rank, world):
        begin = time.perf_counter()
        loss = engine(input_ids=batch["tokens"], labels=batch["labels"]).loss
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    if options.rank_of != "bert":
        losses = torch.tensor(losses)
        torch.distributed.all_reduce(losses)
        losses = (losses / world).tolist()
    if rank == 0:
        print(json.dumps({"losses": losses, "samples": options.batch * world / statistics.median(seconds[WARM_UP:])}), flush=True)


def compare(kind, options):
    with tempfile.TemporaryDirectory() as folder:
        workload = Workload(kind, options, pathlib.Path(folder))
        turns = [(workload.run_ours(), workload.run_deepspeed()) for _ in range(options.turns)]
    ours, theirs = [turn[0][1] for turn in turns], [turn[1][1] for turn in turns]
    apart = max(abs(a - b) / b for a, b in zip(turns[0][0][0], turns[0][1][0], strict=True))
    text = " ".join(f"{rate:.2f}" for rate in ours) + " | " + " ".join(f"{rate:.2f}" for rate in theirs)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    first, last = turns[0][0][0][0], turns[0][0][0][-1]
    print(f"{kind}, {options.ranks} ranks, stage {options.stage}: samples/s ours | DeepSpeed: {text}; ratio {ratio:.2f}; loss {first:.4f} -> {last:.4f}, DeepSpeed's "
          f"{turns[0][1][0][0]:.4f} -> {turns[0][1][0][-1]:.4f}, at most {100 * apart:.3f} % apart in {options.steps} steps", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--model", default="/tmp/deepscale-peers/models/smollm2-135m")
    parser.add_argument("--only", nargs="+", default=["full", "lora", "bert"], choices=["full", "lora", "bert"])
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)
    for name, value in ("ranks", 2), ("turns", 1), ("steps", 50), ("stage", 2), ("threads", 1):
        parser.add_argument("--" + name, type=int, default=value)
    options = parser.parse_args()
    if options.rank_of:
        return rank_of_deepspeed(options)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    for kind in options.only:
        compare(kind, options)


if __name__ == "__main__":
    run_with_transformers()
    main()
