#!/usr/bin/env python3
"""What the examples' make_data.py scripts write: what their programs take, and the same each time.

usage: make_data_test.py <folder of the examples> [unittest arguments]
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

EXAMPLES = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path("examples")


def make(example, *arguments):
    script = EXAMPLES / example / "make_data.py"
    return subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True, check=True).stdout


class MakeData(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_instructions(self):
        first, second = self.folder / "first.jsonl", self.folder / "second.jsonl"
        self.assertIn("300 lines", make("sft", first, 300))
        make("sft", second, 300)
        lines = first.read_text(encoding="utf-8").splitlines()
        self.assertEqual(len(lines), 300)
        self.assertEqual(lines, second.read_text(encoding="utf-8").splitlines())
        for line in map(json.loads, lines):
            self.assertEqual(set(line), {"prompt", "response"})
            self.assertRegex(line["prompt"], r"^Human: What does [\w.]+ do in Python\?\n\nAssistant:$")
            self.assertGreater(len(line["response"]), 20)
        self.assertEqual(len(set(lines)), 300)

    def test_text_and_tokenizer(self):
        for place in "first", "second":
            make("bert_pretraining", self.folder / place, 500)
        first, second = self.folder / "first", self.folder / "second"
        for name in "text.txt", "tokenizer.json", "tokenizer_config.json":
            self.assertEqual((first / name).read_bytes(), (second / name).read_bytes(), name)
        text = (first / "text.txt").read_text(encoding="utf-8")
        self.assertGreater(len(text), 100_000)
        vocabulary = json.loads((first / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        self.assertEqual(sorted(vocabulary.values()), list(range(500)))
        self.assertEqual([vocabulary[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")], [0, 1, 2, 3, 4])
        self.assertLessEqual({character for character in text.lower() if not character.isspace()}, set(vocabulary))
        for token in "the", "return", "##ing":
            self.assertIn(token, vocabulary)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:], verbosity=2)
