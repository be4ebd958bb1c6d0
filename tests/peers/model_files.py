"""What deepscale-model makes of a checkpoint, and says of a model, against transformers.

usage: model_files.py DEEPSCALE_MODEL [unittest arguments]
Runs itself with the interpreter that DEEPSCALE_TORCH_PYTHON names, else python3. Ends with 77, and says why, where that has no transformers.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zlib

PROGRAM = os.path.abspath(sys.argv[1]) if __name__ == "__main__" else ""
TINY = {
    "opt": {"hidden_size": 16, "ffn_dim": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 20,
            "word_embed_proj_dim": 16},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20, "vocab_size": 50},
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40, "vocab_size": 50,
             "max_position_embeddings": 20},
    "llama": {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "vocab_size": 50},
    "mistral": {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "vocab_size": 50},
    "qwen2": {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "vocab_size": 50, "tie_word_embeddings": True},
}


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=True).stdout


def tiny_model(kind):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **TINY[kind])
    of_kind = transformers.AutoModel if kind == "bert" else transformers.AutoModelForCausalLM
    return of_kind.from_config(config)


def write_shard(path, tensors):
    header, data = {"__metadata__": {}}, b""
    for name, tensor in tensors.items():
        content = tensor.contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(content)]}
        header["__metadata__"]["crc32:" + name] = f"{zlib.crc32(content):08x}"
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_checkpoint(directory, model, ranks):
    """Cuts every parameter into runs, as a partition over ranks does. Every third one is a frozen one."""
    parameters = dict(model.named_parameters())  # tied ones once
    folder = directory / "tag"
    folder.mkdir(parents=True)
    files = [f"00000001.rank_{rank}.safetensors" for rank in range(ranks)]
    shards = [{} for _ in files]
    shapes = {"master": {}, "frozen": {}}
    for number, (name, parameter) in enumerate(parameters.items()):
        quantity = "frozen" if number % 3 == 2 else "master"
        shapes[quantity][name] = list(parameter.shape)
        flat = parameter.detach().flatten()
        cut = (number * 7) % (flat.numel() + 1)
        for rank, begin, end in ((number % ranks, 0, cut), ((number + 1) % ranks, cut, flat.numel())):
            if end > begin:
                shards[rank][f"{name}/{quantity}@{begin}"] = flat[begin:end]
    for file, shard in zip(files, shards):
        write_shard(folder / file, shard)
    (folder / "checkpoint.json").write_text(json.dumps({
        "format": 2, "files": files, "world_size": ranks, "parameters": shapes["master"], "frozen_parameters": shapes["frozen"],
        "micro_steps": 1, "global_steps": 1, "skipped_steps": 0, "optimizer_steps": 1, "samples": 1, "client_state": "",
        "loss_scaler": {"scale": 1, "hysteresis_left": 1, "step": 1, "last_overflow_step": -1, "is_dynamic": True}}))
    (directory / "latest").write_text("tag")


class ModelFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_transformers_loads_a_consolidated_checkpoint(self):
        for kind in ("opt", "llama", "bert"):
            for limit in ("5GB", "3KB"):
                with self.subTest(kind=kind, limit=limit):
                    model = tiny_model(kind)
                    place = self.folder / (kind + limit)
                    write_checkpoint(place / "checkpoint", model, ranks=3)
                    run("zero_to_fp32", str(place / "checkpoint"), str(place / "out"), "--max_shard_size", limit)
                    model.config.save_pretrained(place / "out")
                    loaded = type(model).from_pretrained(place / "out", dtype=torch.float32)
                    expected = model.state_dict()
                    for name, value in loaded.state_dict().items():
                        self.assertTrue(torch.equal(value, expected[name]), name)

    def test_estimate_counts_what_transformers_counts(self):
        for kind in TINY:
            with self.subTest(kind=kind):
                model = tiny_model(kind)
                of_config, of_weights = self.folder / kind / "config", self.folder / kind / "weights"
                model.config.save_pretrained(of_config)
                model.save_pretrained(of_weights)
                for place in (of_config, of_weights):
                    told = json.loads(run("estimate", "--model", str(place), "--json"))
                    self.assertEqual(told["parameters"], model.num_parameters(), place)


def run_with_transformers():
    """Replaces this process by one whose interpreter has transformers, unless it is that one."""
    python = os.environ.get("DEEPSCALE_TORCH_PYTHON", "python3")
    if os.environ.get("MODEL_FILES_PYTHON") == python:
        return
    found = subprocess.run([python, "-c", "import torch, transformers"], capture_output=True, text=True)
    if found.returncode != 0:
        why = (found.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"skipped: {python} cannot import transformers ({why}); DEEPSCALE_TORCH_PYTHON names another interpreter")
        sys.exit(77)
    os.execvpe(python, [python] + sys.argv, os.environ | {"MODEL_FILES_PYTHON": python})


if __name__ == "__main__":
    run_with_transformers()
    import torch
    import transformers

    unittest.main(argv=[sys.argv[0]] + sys.argv[2:], verbosity=2)
