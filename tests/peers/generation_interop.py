"""What the decoders of runtime/inference generate, beside transformers, with real models.

usage: generation_interop.py INFERENCE_PEER [unittest arguments]
Where it finds Python and models, and when it ends with 77: as models_interop.py.
"""
import json
import math
import os
import subprocess
import sys
import unittest

import models_interop

PROMPTS = ["The capital of France is", "def fibonacci(n):", "Once upon a time, in a village by the sea, there lived", "Water boils at"]
NEW_TOKENS = 24
GROUP_SIZE = 64


def quantised(model, bits):
    """The model with the matrices of its layers rounded to 2^bits levels between the ends of each group."""
    import torch
    with torch.no_grad():
        for layer in model.model.layers:
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    groups = module.weight.unflatten(1, (-1, GROUP_SIZE))
                    least, greatest = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
                    scale = (greatest - least) / (2**bits - 1)
                    module.weight.copy_((((groups - least) / scale).round() * scale + least).flatten(1))
    return model


class Generation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import torch
        from transformers import AutoTokenizer
        cls.folder = models_interop.MODELS / "smollm2-135m"
        tokenizer = AutoTokenizer.from_pretrained(cls.folder)
        model = cls.load()
        cls.prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
        with open("/usr/share/common-licenses/Apache-2.0", encoding="utf-8") as file:
            cls.text = tokenizer(file.read())["input_ids"][:128]
        cls.loss = cls.loss_of(model)
        with torch.no_grad():
            cls.generated = [cls.generate(model, prompt) for prompt in cls.prompts]

    @classmethod
    def load(cls):
        from transformers import AutoModelForCausalLM
        return AutoModelForCausalLM.from_pretrained(cls.folder, dtype="float32").eval()

    @classmethod
    def loss_of(cls, model):
        import torch
        with torch.no_grad():
            return model(input_ids=torch.tensor([cls.text]), labels=torch.tensor([cls.text])).loss.item()

    @staticmethod
    def generate(model, prompt):
        import torch
        answer = model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None)
        return answer[0, len(prompt):].tolist()

    def ours(self, mode):
        given = json.dumps({"prompts": self.prompts, "new_tokens": NEW_TOKENS, "text": self.text})
        answer = subprocess.run([INFERENCE_PEER, self.folder, mode], input=given, capture_output=True, text=True, check=True)
        return json.loads(answer.stdout)

    def test_greedy_tokens_and_perplexity(self):
        for mode in "mapped16", "streamed16":
            with self.subTest(mode):
                answer = self.ours(mode)
                self.assertEqual(answer["generated"], self.generated)
                self.assertAlmostEqual(answer["loss"], self.loss, delta=1e-4)

    def test_quantised_weights(self):
        """The perplexity is that of weights which torch rounds in the same way: 1.008 times the model's with 8 bits, 1.46 times with 4."""
        for bits in 8, 4:
            with self.subTest(bits):
                expected = self.loss_of(quantised(self.load(), bits))
                self.assertAlmostEqual(self.ours(f"mapped{bits}")["loss"], expected, delta=1e-3)
                if bits == 8:
                    self.assertLess(math.exp(expected - self.loss), 1.02)


if __name__ == "__main__":
    models_interop.run_with_models()
    INFERENCE_PEER = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
