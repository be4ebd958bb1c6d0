// A folder in CIFAR-10's binary format, made for a test and removed with it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "examples/cifar10/cifar10_dataset.h"
#include "tests/temporary_folder.h"

namespace cifar10 {

class ImageFolder {
 public:
  const std::filesystem::path& path() const { return folder_.path(); }

  void write(const std::string& name, const std::vector<std::uint8_t>& bytes) const {
    write(name, std::string(bytes.begin(), bytes.end()));
  }

  void write(const std::string& name, const std::string& text) const {
    ASSERT_EQ(std::filesystem::file_size(folder_.write(name, text)), text.size()) << name;
  }

 private:
  const deepscale::testing::TemporaryFolder folder_;
};

// `count` noisy images, of every class in turn: the class is where the bright stripe is, so a few steps learn
// it.
inline Records striped_images(int count, unsigned seed) {
  std::mt19937 random(seed);
  Records records;
  for (int image = 0; image < count; ++image) {
    const int label = image % kClasses;
    records.push_back(static_cast<std::uint8_t>(label));
    for (int pixel = 0; pixel < kRecordBytes - 1; ++pixel) {
      const int row = pixel / kImageSize % kImageSize;
      const bool bright = row / 3 == label;
      records.push_back(static_cast<std::uint8_t>((bright ? 180 : 20) + random() % 60));
    }
  }
  return records;
}

}  // namespace cifar10
