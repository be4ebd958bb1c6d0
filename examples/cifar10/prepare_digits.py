#!/usr/bin/env python3
"""Turns the handwritten digits of scikit-learn into CIFAR-10's binary format.

usage: prepare_digits.py <scikit_learn wheel or digits.csv.gz> <output folder>

The data set (Alpaydin and Kaynak, UCI "Optical Recognition of Handwritten Digits", 1998) has 1,797 images of 8x8 pixels with 17 grey
levels. Each becomes a grey 32x32 colour image. Writes data_batch_1.bin (1,437 images), test_batch.bin (360) and batches.meta.txt; a record is
one label byte, then the red, green and blue planes of 1,024 bytes each (https://www.cs.toronto.edu/~kriz/cifar.html). The same input always
gives the same bytes.
"""
import gzip
import os
import random
import sys
import zipfile

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SOURCE_SIZE = 8
TARGET_SIZE = 32
WHITE = 16  # the brightest grey level of the source
IMAGES = 1797
TEST_IMAGES = 360


def read_table(path):
    """Returns the text of digits.csv: one image a line, 64 grey levels and the label."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            return gzip.decompress(file.read()).decode()
    with zipfile.ZipFile(path) as wheel:
        return gzip.decompress(wheel.read("sklearn/datasets/data/digits.csv.gz")).decode()


def read_digits(path):
    """Returns a list of (label, 64 grey levels from 0 to 16)."""
    digits = []
    for line in read_table(path).splitlines():
        values = [int(float(value)) for value in line.split(",")]
        pixels, label = values[:-1], values[-1]
        if len(pixels) != SOURCE_SIZE * SOURCE_SIZE or not 0 <= label < len(NAMES) or not all(0 <= p <= WHITE for p in pixels):
            raise ValueError(f"line {len(digits) + 1} is not 64 grey levels and a label: {line[:60]}")
        digits.append((label, pixels))
    if len(digits) != IMAGES:
        raise ValueError(f"{len(digits)} images instead of {IMAGES}")
    return digits


def interpolation_taps():
    """For each target coordinate: the two source coordinates around its centre and the weight of the second (clamped at the edges)."""
    taps = []
    for target in range(TARGET_SIZE):
        centre = (target + 0.5) * SOURCE_SIZE / TARGET_SIZE - 0.5
        centre = min(max(centre, 0.0), SOURCE_SIZE - 1.0)
        first = min(int(centre), SOURCE_SIZE - 2)
        taps.append((first, first + 1, centre - first))
    return taps


def upscale(pixels, taps):
    """Bilinear interpolation of an 8x8 image of grey levels to 32x32 bytes."""
    rows = [pixels[start:start + SOURCE_SIZE] for start in range(0, len(pixels), SOURCE_SIZE)]
    plane = bytearray()
    for top, bottom, down in taps:
        row = [a * (1 - down) + b * down for a, b in zip(rows[top], rows[bottom])]
        plane.extend(round((row[left] * (1 - across) + row[right] * across) * 255 / WHITE) for left, right, across in taps)
    return bytes(plane)


def write_records(path, digits):
    taps = interpolation_taps()
    with open(path + ".partial", "wb") as file:
        for label, pixels in digits:
            file.write(bytes([label]) + upscale(pixels, taps) * 3)
    os.replace(path + ".partial", path)


def main(arguments):
    if len(arguments) != 2:
        sys.exit("usage: prepare_digits.py <scikit_learn wheel or digits.csv.gz> <output folder>")
    source, folder = arguments
    try:
        digits = read_digits(source)
        os.makedirs(folder, exist_ok=True)
        random.Random(0).shuffle(digits)
        write_records(os.path.join(folder, "data_batch_1.bin"), digits[TEST_IMAGES:])
        write_records(os.path.join(folder, "test_batch.bin"), digits[:TEST_IMAGES])
        with open(os.path.join(folder, "batches.meta.txt"), "w", encoding="ascii") as file:  # last: says that the folder is complete
            file.write("".join(name + "\n" for name in NAMES))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"prepare_digits.py: {source}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
