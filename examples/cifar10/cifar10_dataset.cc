#include "examples/cifar10/cifar10_dataset.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <system_error>

#include "comm/base/error.h"

namespace cifar10 {

namespace fs = std::filesystem;
using deepscale::Error;
using deepscale::ErrorCode;

namespace {

Error not_a_dataset(const fs::path& folder, std::string_view why) {
  return Error(ErrorCode::kNotFound,
               fmt::format("no data set in \"{}\": {}; ./build.sh demo makes a small one in data/digits, or "
                           "unpack CIFAR-10's binary version "
                           "(https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz) and give its folder "
                           "with --data_dir",
                           folder.string(), why));
}

std::vector<fs::path> training_files(const fs::path& folder) {
  std::error_code failure;
  std::vector<fs::path> files;
  fs::directory_iterator entries(folder, failure);
  for (; !failure && entries != fs::directory_iterator(); entries.increment(failure)) {
    const std::string name = entries->path().filename().string();
    if (name.starts_with("data_batch_") && name.ends_with(".bin")) files.push_back(entries->path());
  }
  if (failure) throw not_a_dataset(folder, failure.message());
  if (files.empty()) throw not_a_dataset(folder, "there is no data_batch_*.bin");
  std::sort(files.begin(), files.end());
  return files;
}

void check_labels(const fs::path& path, const Records& records, std::size_t first) {
  for (std::size_t at = first; at < records.size(); at += kRecordBytes) {
    if (records[at] >= kClasses) {
      throw Error(
          ErrorCode::kProtocol,
          fmt::format("{}: image {} has the label {}, expected 0 to {}: the file is damaged or not in "
                      "CIFAR-10's binary format",
                      path.string(), (at - first) / kRecordBytes, records[at], kClasses - 1));
    }
  }
}

void append_records(const fs::path& path, Records& records) {
  std::error_code failure;
  const std::uintmax_t bytes = fs::file_size(path, failure);
  if (failure) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot read {}: {}", path.string(), failure.message()));
  }
  if (bytes == 0 || bytes % kRecordBytes != 0) {
    throw Error(
        ErrorCode::kProtocol,
        fmt::format("{}: its size is {} bytes, expected a multiple of {} (a label and {} pixel bytes an "
                    "image): the file is truncated or not in CIFAR-10's binary format",
                    path.string(), bytes, kRecordBytes, kRecordBytes - 1));
  }
  const std::size_t first = records.size();
  records.resize(first + bytes);
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(records.data() + first), static_cast<std::streamsize>(bytes))) {
    throw Error(ErrorCode::kSystem,
                fmt::format("cannot read {}: {} of {} bytes came", path.string(), file.gcount(), bytes));
  }
  check_labels(path, records, first);
}

std::vector<std::string> read_class_names(const fs::path& path) {
  std::ifstream file(path);
  if (!file) {
    return {"plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  }
  std::vector<std::string> names;
  for (std::string line; std::getline(file, line);) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (!line.empty()) names.push_back(line);
  }
  if (names.size() != kClasses) {
    throw Error(ErrorCode::kProtocol, fmt::format("{}: it has {} class names, expected {}, one a line",
                                                  path.string(), names.size(), kClasses));
  }
  return names;
}

}  // namespace

Dataset read_dataset(const fs::path& folder) {
  Dataset dataset;
  for (const fs::path& path : training_files(folder)) append_records(path, dataset.train);
  const fs::path test = folder / "test_batch.bin";
  if (!fs::exists(test)) throw not_a_dataset(folder, "there is no test_batch.bin");
  append_records(test, dataset.test);
  dataset.class_names = read_class_names(folder / "batches.meta.txt");
  return dataset;
}

}  // namespace cifar10
