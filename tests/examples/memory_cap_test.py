#!/usr/bin/env python3
"""zero_inference with a model that is larger than the memory it may use, page cache included.

usage: memory_cap_test.py <zero_inference> [unittest arguments]
The cap is that of a cgroup; where none may be made, only the peak that the program itself tells is checked.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ""
MEGABYTE = 1 << 20
CAP = 80 * MEGABYTE
SHAPE = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 512, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 24,
         "num_attention_heads": 8, "max_position_embeddings": 64, "dtype": "bfloat16"}
MODEL_BYTES = 2 * 24 * (4 * 512 * 512 + 3 * 512 * 2048)  # 201 MB


def own_cgroup(controller):
    """The folder of the cgroup that this process is in, of version 2 (controller "") or 1."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return pathlib.Path("/sys/fs/cgroup") / controller / path.lstrip("/")
    return None


def make_capped_cgroup():
    """A new cgroup of CAP bytes, or None where none may be made."""
    for controller, limit in ("memory", "memory.limit_in_bytes"), ("", "memory.max"):
        for place in own_cgroup(controller), pathlib.Path("/sys/fs/cgroup") / controller:
            if place is None or not place.is_dir():
                continue
            group = place / f"deepscale_memory_cap_{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            try:
                (group / limit).write_text(str(CAP))
                return group
            except OSError:
                group.rmdir()
    return None


class MemoryCap(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "config.json").write_text(json.dumps(SHAPE))

    def generate(self, *options, group=None):
        """The texts and the told peak in bytes; as a process of that cgroup."""
        def enter():
            (group / "cgroup.procs").write_text(str(os.getpid()))

        command = [PROGRAM, "--model", self.folder, "--dummy", "--offload-dir", self.folder / "offload", "--batch-size", "2", "--prompt-len", "4", "--gen-len", "4",
                   "--loops", "1", "--threads", "2", *options]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=200, preexec_fn=enter if group else None)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        texts, summary = done.stdout.split("----------\n")
        return texts, float(re.search(r"peak memory: ([0-9.]+) GB", summary)[1]) * 2**30

    def test_layers_from_files_need_memory_for_two(self):
        texts, _ = self.generate()
        streamed, peak = self.generate("--disk-offload")
        self.assertEqual(streamed, texts)
        self.assertLess(peak, CAP)
        self.assertLess(CAP, MODEL_BYTES / 2)

    def test_a_cap_below_the_model_changes_nothing(self):
        texts, _ = self.generate()
        group = make_capped_cgroup()
        if group is None:
            self.skipTest("no cgroup may be made here")
        self.addCleanup(group.rmdir)
        for options in ["--disk-offload"], []:  # mapped pages are dropped and read again
            with self.subTest(options):
                self.assertEqual(self.generate(*options, group=group)[0], texts)
        for name in "memory.max_usage_in_bytes", "memory.peak":
            if (group / name).exists():
                self.assertLessEqual(int((group / name).read_text()), CAP)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:], verbosity=2)
