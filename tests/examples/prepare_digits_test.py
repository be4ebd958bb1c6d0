#!/usr/bin/env python3
"""examples/cifar10/prepare_digits.py on made images, and the real digits where ./build.sh has prepared them.

usage: prepare_digits_test.py <prepare_digits.py> <data/digits>
"""
import gzip
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

SCRIPT, PREPARED = sys.argv.pop(1), sys.argv.pop(1)
RECORD = 1 + 3 * 32 * 32
TRAIN, TEST = 1437, 360


def made_images():
    """1,797 lines of 64 grey levels and a label. All images are plain, but for a slope from left to right in those labelled 7."""
    lines = []
    for index in range(TRAIN + TEST):
        label = index % 10
        row = list(range(0, 16, 2)) if label == 7 else [label] * 8
        lines.append(",".join(str(value) for value in row * 8 + [label]))
    return "\n".join(lines) + "\n"


def records(path):
    """Returns the (label, red, green, blue) of every record of a CIFAR-10 file."""
    with open(path, "rb") as file:
        data = file.read()
    assert len(data) % RECORD == 0, f"{path} holds {len(data)} bytes, not whole records"
    starts = range(0, len(data), RECORD)
    return [(data[s], data[s + 1:s + 1025], data[s + 1025:s + 2049], data[s + 2049:s + 3073]) for s in starts]


class PrepareDigitsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="deepscale_digits_")
        self.addCleanup(shutil.rmtree, self.folder)

    def prepare(self, table, output="out"):
        source = os.path.join(self.folder, "made.whl")
        with zipfile.ZipFile(source, "w") as wheel:
            wheel.writestr("sklearn/datasets/data/digits.csv.gz", gzip.compress(table.encode()))
        output = os.path.join(self.folder, output)
        return output, subprocess.run([sys.executable, SCRIPT, source, output], capture_output=True, text=True, timeout=60)

    def test_writes_the_format_of_cifar10(self):
        output, done = self.prepare(made_images())
        self.assertEqual(done.returncode, 0, done.stderr)
        train, test = (records(os.path.join(output, name)) for name in ("data_batch_1.bin", "test_batch.bin"))
        self.assertEqual((len(train), len(test)), (TRAIN, TEST))
        with open(os.path.join(output, "batches.meta.txt"), encoding="ascii") as file:
            self.assertEqual(file.read().split(), "zero one two three four five six seven eight nine".split())
        for label, red, green, blue in train + test:
            self.assertTrue(red == green == blue)
            if label != 7:
                self.assertEqual(red, bytes([round(label * 255 / 16)]) * 1024)

    def test_interpolates_between_the_centres_of_pixels(self):
        output, _ = self.prepare(made_images())
        slope = next(red for label, red, _, _ in records(os.path.join(output, "test_batch.bin")) if label == 7)
        # Target pixel x lies at (x + 0.5) / 4 - 0.5 of the source, whose levels are 0, 2, 4 ... 14 of 16; the edges are held.
        expected = [round(min(max((x + 0.5) / 4 - 0.5, 0), 7) * 2 * 255 / 16) for x in range(32)]
        self.assertEqual([list(slope[row * 32:row * 32 + 32]) for row in range(32)], [expected] * 32)

    def test_splits_every_class_and_always_alike(self):
        first, _ = self.prepare(made_images(), "first")
        second, _ = self.prepare(made_images(), "second")
        labels = [label for label, *_ in records(os.path.join(first, "test_batch.bin"))]
        for label in range(10):
            self.assertGreater(labels.count(label), 15)
        for name in ("data_batch_1.bin", "test_batch.bin"):
            self.assertEqual(records(os.path.join(first, name)), records(os.path.join(second, name)))

    def test_says_in_one_line_what_is_wrong_with_the_input(self):
        lines = made_images().splitlines()
        broken = {
            "1796 images": lines[:-1],
            "line 3 is not": lines[:2] + ["1,2,3"] + lines[3:],
            "line 1 is not": [lines[0].replace("0", "17", 1)] + lines[1:],
            "could not convert": ["x" + lines[0]] + lines[1:],
        }
        for complaint, table in broken.items():
            output, done = self.prepare("\n".join(table))
            self.assertEqual(done.returncode, 1)
            self.assertIn(complaint, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertFalse(os.path.exists(os.path.join(output, "batches.meta.txt")))

    @unittest.skipUnless(os.path.exists(os.path.join(PREPARED, "batches.meta.txt")), "the real digits are not prepared here")
    def test_the_real_digits_are_whole(self):
        images = records(os.path.join(PREPARED, "data_batch_1.bin")) + records(os.path.join(PREPARED, "test_batch.bin"))
        counts = [sum(label == wanted for label, *_ in images) for wanted in range(10)]
        self.assertEqual(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])  # as the data set's description says
        random.Random(1).shuffle(images)
        for _, red, _, _ in images[:50]:
            self.assertGreater(max(red), 200)
            self.assertLess(min(red), 20)


if __name__ == "__main__":
    unittest.main()
