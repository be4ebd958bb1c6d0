// A folder in CIFAR-10's binary format, made for a test and removed with it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "examples/cifar10/cifar10_dataset.h"

namespace cifar10 {

class ImageFolder {
 public:
  ImageFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("cifar10_test_" + std::to_string(std::random_device()()))) {
    std::filesystem::create_directory(path_);
  }
  ~ImageFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ImageFolder(const ImageFolder&) = delete;
  ImageFolder& operator=(const ImageFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(const std::string& name, const std::vector<std::uint8_t>& bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    ASSERT_TRUE(file.flush()) << path_ / name;
  }

  void write(const std::string& name, const std::string& text) const {
    write(name, std::vector<std::uint8_t>(text.begin(), text.end()));
  }

 private:
  std::filesystem::path path_;
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
