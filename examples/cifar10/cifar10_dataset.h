// CIFAR-10 in its binary format: data_batch_*.bin to train on, test_batch.bin, and batches.meta.txt with the
// class names.
//
// A file is a row of records of 3,073 bytes: one label, then the red, green and blue planes of a 32x32 image,
// row by row (https://www.cs.toronto.edu/~kriz/cifar.html). Nothing says how many images there are, so other
// data sets fit in too. Reading blocks on the disk; values are plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cifar10 {

inline constexpr int kClasses = 10;
inline constexpr int kChannels = 3;
inline constexpr int kImageSize = 32;  // width and height
inline constexpr int kRecordBytes = 1 + kChannels * kImageSize * kImageSize;

// Whole records, one after another, with labels below kClasses. Never empty.
using Records = std::vector<std::uint8_t>;

struct Dataset {
  Records train;  // of all data_batch_*.bin, in the order of their names
  Records test;
  std::vector<std::string> class_names;  // kClasses of them
};

// Error(kNotFound) when a file is not there, Error(kProtocol) when one is not in the format, Error(kSystem)
// when one cannot be read; each names the file. Without batches.meta.txt the classes have CIFAR-10's own
// names.
Dataset read_dataset(const std::filesystem::path& folder);

}  // namespace cifar10
