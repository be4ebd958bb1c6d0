"""What sft and bert_pretraining save, in transformers and PEFT.

usage: training_interop.py SFT BERT_PRETRAINING DEEPSCALE [unittest arguments]
Runs itself with the interpreter that DEEPSCALE_TORCH_PYTHON names, else that of /tmp/deepscale-peers, else python3. Ends with 77, and says why, where that has no
transformers.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from models_interop import run_with_transformers

LINES = [(f"What is {a} plus {b}?", f" It is {a + b}.") for a in range(6) for b in range(6)]


def make_tokenizer():
    """A small byte-level BPE, as OPT and GPT-2 have."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "[MASK]", "</s>"], initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([prompt + response for prompt, response in LINES], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", mask_token="[MASK]", eos_token="</s>")


def make_model(kind, tokenizer):
    import torch
    import transformers
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.3, "init_std": 0.3,
             "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    own = {"opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}, "llama": {"intermediate_size": 48, "num_key_value_heads": 2}, "gpt2": {"bos_token_id": tokenizer.eos_token_id}}[kind]
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **sizes, **own))


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=250, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


class Training(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def fine_tune(self, kind, launcher, output):
        base = self.folder / kind
        tokenizer = make_tokenizer()
        make_model(kind, tokenizer).save_pretrained(base)
        tokenizer.save_pretrained(base)
        data = self.folder / "data.jsonl"
        data.write_text("".join(json.dumps({"prompt": prompt, "response": response}) + "\n" for prompt, response in LINES))
        return base, run(*launcher, SFT, "--model_name_or_path", base, "--data_path", data, "--eval_path", data, "--max_seq_len", 32, "--lora_dim", 8,
                         "--only_optimize_lora", "--zero_stage", 3, "--num_train_epochs", 5, "--per_device_train_batch_size", 6, "--per_device_eval_batch_size", 1,
                         "--learning_rate", 0.03, "--dropout", 0, "--output_dir", output)

    def mean_loss(self, model, tokenizer):
        """Of the tokens of the responses and the end of each, as sft evaluates."""
        import torch
        total = tokens = 0
        for prompt, response in LINES:
            asked, told = tokenizer(prompt)["input_ids"], tokenizer(response)["input_ids"] + [tokenizer.eos_token_id]
            with torch.no_grad():
                total += len(told) * model(input_ids=torch.tensor([asked + told]), labels=torch.tensor([[-100] * len(asked) + told])).loss.item()
            tokens += len(told)
        return total / tokens

    def test_fine_tuned_models_and_adapters(self):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        try:
            import peft
        except ImportError:
            self.skipTest(f"{sys.executable} has no peft")
        for kind, launcher in ("opt", []), ("llama", [DEEPSCALE, "launch", "--num_gpus", 2]), ("gpt2", []):
            with self.subTest(kind):
                output = self.folder / (kind + "_tuned")
                base, log = self.fine_tune(kind, launcher, output)
                losses = [float(loss) for loss in re.findall(r"ppl: [0-9.]+, loss: ([0-9.]+)", log)]
                self.assertLess(losses[-1], 0.8 * losses[0])
                whole = AutoModelForCausalLM.from_pretrained(output).eval()
                adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), output / "adapter").eval()
                ids = torch.randint(0, 200, (2, 20))
                with torch.no_grad():
                    self.assertLess((whole(input_ids=ids).logits - adapted(input_ids=ids).logits).abs().max().item(), 1e-4)
                self.assertAlmostEqual(self.mean_loss(adapted, AutoTokenizer.from_pretrained(output)), losses[-1], delta=2e-4)

    def test_pretrained_bert(self):
        """What it saves fills in masked words in transformers, better than a guess among all tokens."""
        import torch
        from transformers import AutoModelForMaskedLM, AutoTokenizer
        tokenizer = make_tokenizer()
        tokenizer.save_pretrained(self.folder / "data")
        lines = [prompt + response for prompt, response in LINES]
        (self.folder / "data" / "text.txt").write_text("\n".join(lines * 5))
        output = self.folder / "bert"
        run(DEEPSCALE, "launch", "--num_gpus", 2, BERT_PRETRAINING, "--checkpoint_dir", self.folder / "checkpoint", "--data_path", self.folder / "data",
            "--tokenizer_path", self.folder / "data", "--output_dir", output, "--num_layers", 2, "--num_heads", 2, "--h_dim", 32, "--ff_dim", 64, "--max_seq_length", 32,
            "--num_iterations", 150, "--stage", 3, "--learning_rate", 0.01, "--dropout", 0)
        model, tokenizer = AutoModelForMaskedLM.from_pretrained(output).eval(), AutoTokenizer.from_pretrained(output)
        total = 0.0
        for line in lines:
            labels = torch.tensor([tokenizer(line)["input_ids"]])
            masked = labels.clone()
            masked[0, 3] = tokenizer.mask_token_id
            with torch.no_grad():
                total += torch.nn.functional.cross_entropy(model(input_ids=masked).logits[0, 3], labels[0, 3]).item()
        self.assertLess(total / len(lines), 2.0)  # a guess: log(281) = 5.6


if __name__ == "__main__":
    run_with_transformers()
    SFT, BERT_PRETRAINING, DEEPSCALE = (os.path.abspath(sys.argv.pop(1)) for _ in range(3))
    unittest.main(verbosity=2)
