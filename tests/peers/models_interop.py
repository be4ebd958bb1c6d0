"""Our models and tokenizers beside those of transformers, with real models.

usage: models_interop.py TOKENIZER_PEER [MODEL_PEER] [unittest arguments]
Runs itself with the interpreter that DEEPSCALE_TORCH_PYTHON names, else that of /tmp/deepscale-peers, else python3; the models are in
DEEPSCALE_PEER_MODELS, else /tmp/deepscale-peers/models (smollm2-135m, minilm-l6, opt-125m). Ends with 77, and says why, where one lacks.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

PEERS = pathlib.Path("/tmp/deepscale-peers")
MODELS = pathlib.Path(os.environ.get("DEEPSCALE_PEER_MODELS", PEERS / "models"))
LINES = 10_000
SCRIPTS = [(0x20, 0x7E), (0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x900, 0x97F), (0xE01, 0xE5B),
           (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x20A0, 0x20BF), (0x2190, 0x22FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF00, 0xFF5E),
           (0x1F300, 0x1F64F), (0x20000, 0x2A6DF)]


def mixed_lines():
    """Prose and code of this machine, with every third line of random words in random scripts."""
    chance = random.Random(7)
    found = []
    for folder, pattern in (("/usr/share/common-licenses", "*"), (os.path.dirname(os.__file__), "*.py"), ("/usr/share/doc", "*/copyright")):
        for path in sorted(pathlib.Path(folder).glob(pattern))[:80]:
            found += path.read_text(encoding="utf-8", errors="ignore").split("\n")[:400]
    chance.shuffle(found)

    def word():
        first, last = chance.choice(SCRIPTS)
        return "".join(chr(chance.randint(first, last)) for _ in range(chance.randint(1, 8)))

    for index in range(LINES):
        if index % 3 == 0:
            yield chance.choice(["", " ", "\t"]) + chance.choice([" ", "  ", "", "\u00a0", "\n"]).join(word() for _ in range(chance.randint(1, 9)))
        else:
            yield found[index % len(found)]


class Tokenizers(unittest.TestCase):
    def check(self, name):
        from transformers import AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
        lines = list(mixed_lines())
        answer = subprocess.run([TOKENIZER_PEER, MODELS / name], input="\n".join(json.dumps(line) for line in lines), capture_output=True, text=True, check=True)
        answers = answer.stdout.removesuffix("\n").split("\n")  # splitlines() would cut at other separators too
        self.assertEqual(len(answers), len(lines))
        wrong = []
        for line, ours in zip(lines, map(json.loads, answers)):
            tokens = tokenizer(line)["input_ids"]
            decoded = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if ours["tokens"] != tokens or (name == "smollm2-135m" and ours["decoded"] != decoded):
                wrong.append((line, tokens, ours))
        self.assertEqual(wrong, [], f"{len(wrong)} of {len(lines)} lines")

    def test_byte_level(self):
        self.check("smollm2-135m")

    def test_word_piece(self):
        self.check("minilm-l6")


class Models(unittest.TestCase):
    def setUp(self):
        if not MODEL_PEER:
            self.skipTest("the build has no LibTorch")

    def check(self, name, answer_of, adapter=()):
        import torch
        from safetensors.torch import load_file, save_file
        torch.manual_seed(5)
        with tempfile.TemporaryDirectory() as folder:
            given, answered = os.path.join(folder, "given.safetensors"), os.path.join(folder, "answered.safetensors")
            input_ids = torch.randint(1000, 20000, (2, 24))
            mask = torch.ones_like(input_ids)
            mask[1, 17:] = 0
            save_file({"input_ids": input_ids, "attention_mask": mask}, given)
            subprocess.run([MODEL_PEER, MODELS / name, given, answered, *adapter], check=True)
            ours = load_file(answered)["answer"]
        with torch.no_grad():
            theirs = answer_of(MODELS / name, input_ids, mask)
        real = mask.bool()
        self.assertLess((ours[real] - theirs[real]).abs().max().item(), 1e-4 * max(1.0, theirs[real].abs().max().item() / 10.0))

    def test_language_models(self):
        from transformers import AutoModelForCausalLM
        for name in "smollm2-135m", "opt-125m":
            with self.subTest(name):
                self.check(name, lambda path, ids, mask: AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()(ids, attention_mask=mask).logits)

    def test_adapters(self):
        """PEFT's adapter computes the same here, and what is saved of it here the same in PEFT."""
        import torch
        from transformers import AutoModelForCausalLM
        try:
            import peft
        except ImportError:
            self.skipTest(f"{sys.executable} has no peft")

        def load(path):
            return AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()

        for name, targets in ("smollm2-135m", ["q_proj", "down_proj"]), ("opt-125m", "all-linear"):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                theirs, ours = os.path.join(folder, "theirs"), os.path.join(folder, "ours")
                torch.manual_seed(3)
                model = peft.get_peft_model(load(MODELS / name), peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets))
                for parameter_name, parameter in model.named_parameters():
                    if "lora_B" in parameter_name:
                        torch.nn.init.normal_(parameter, std=0.05)
                model.save_pretrained(theirs)
                self.check(name, lambda path, ids, mask: model.eval()(input_ids=ids, attention_mask=mask).logits, [theirs, ours])
                again = peft.PeftModel.from_pretrained(load(MODELS / name), ours).eval()
                ids = torch.randint(1000, 20000, (1, 12))
                with torch.no_grad():
                    expected = model(input_ids=ids).logits
                    self.assertGreater((load(MODELS / name)(input_ids=ids).logits - expected).abs().max().item(), 0.1)
                    self.assertLess((again(input_ids=ids).logits - expected).abs().max().item(), 1e-4)

    def test_hidden_states_of_bert(self):
        from transformers import AutoModel
        self.check("minilm-l6", lambda path, ids, mask: AutoModel.from_pretrained(path, dtype="float32").eval()(ids, attention_mask=mask).last_hidden_state)


def find_python():
    for python in os.environ.get("DEEPSCALE_TORCH_PYTHON"), PEERS / "venv/bin/python", "python3":
        if python and subprocess.run(["which", str(python)], capture_output=True).returncode == 0:
            return str(python)


def run_with_transformers():
    """Replaces this process by one whose interpreter has transformers; ends it with 77 where there is none."""
    if os.environ.get("DEEPSCALE_MODELS_INTEROP") != "1":
        os.execvpe(find_python(), [find_python(), *sys.argv], {**os.environ, "DEEPSCALE_MODELS_INTEROP": "1", "HF_HUB_OFFLINE": "1"})
    try:
        import transformers  # noqa: F401
    except ImportError:
        print(f"skipped: {sys.executable} has no transformers; DEEPSCALE_TORCH_PYTHON can name one that has")
        sys.exit(77)


def run_with_models():
    run_with_transformers()
    if not (MODELS / "minilm-l6").exists():
        print(f"skipped: no models in {MODELS}; DEEPSCALE_PEER_MODELS can name a folder that has smollm2-135m, minilm-l6 and opt-125m")
        sys.exit(77)


if __name__ == "__main__":
    run_with_models()
    TOKENIZER_PEER = os.path.abspath(sys.argv.pop(1))
    MODEL_PEER = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
    unittest.main(verbosity=2)
