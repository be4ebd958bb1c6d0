// The weights of a Hugging Face folder: one model.safetensors, or several with a
// model.safetensors.index.json.
//
// Nothing is read before a tensor's bytes are touched (runtime/checkpoint/mapped_file.h), and all processes
// of a machine share the pages. A view keeps its file mapped. Any thread may read.
//
// Failures name the file: kNotFound where the folder has no safetensors, or the index names a file or a
// tensor that is not there; kProtocol for damage; kInvalidArgument for an index that leads out of the folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/checkpoint/safetensors.h"

namespace deepscale {

struct WeightView {
  static WeightView of(const SafetensorsReader& reader, const SafetensorsReader::Entry& entry);

  std::string dtype;  // as safetensors has it: "F32", "BF16", ...
  std::vector<std::int64_t> shape;
  std::byte* data = nullptr;  // may be unaligned; writing changes this process's copy only
  std::int64_t bytes = 0;
  std::shared_ptr<MappedFile> file;
  std::int64_t offset = 0;  // of the first byte, in the file
};

class WeightFiles {
 public:
  explicit WeightFiles(const std::filesystem::path& directory);

  bool has(const std::string& name) const { return readers_.count(name) > 0; }
  std::vector<std::string> names() const;          // sorted
  WeightView view(const std::string& name) const;  // Error(kNotFound) for another name
  const std::filesystem::path& directory() const { return directory_; }
  std::int64_t bytes() const;  // of all tensors

 private:
  void open_index(const std::filesystem::path& index);
  void open_file(const std::filesystem::path& path);

  std::filesystem::path directory_;
  std::map<std::string, std::shared_ptr<const SafetensorsReader>> readers_;  // by the tensor's name
};

}  // namespace deepscale
