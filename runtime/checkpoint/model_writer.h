// Writes the weights of a model as transformers reads them: model.safetensors, or, above a size, files
// model-00001-of-00003.safetensors with model.safetensors.index.json.
//
//   ModelWriter writer(folder, {{"embed.weight", "F32", {100, 8}}, ...}, 5'000'000'000);
//   for (...) writer.write(data, bytes);  // tensors in the order given
//   writer.finish();
//
// Never holds more than the tensor that is being written. Files are written under other names, and get theirs
// in finish(), which then removes files of these names that earlier weights have left, and no others; without
// it the folder keeps what it had.
//
// Blocking; for one thread. Error(kSystem) names the file.
// Format: https://huggingface.co/docs/safetensors; the metadata "format": "pt" is what transformers asks for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "runtime/checkpoint/durable_file.h"

namespace deepscale {

struct DeclaredTensor {
  std::string name;
  std::string dtype;  // as in safetensors.h
  std::vector<std::int64_t> shape;
};

class ModelWriter {
 public:
  static constexpr std::int64_t kDefaultShardBytes = 5'000'000'000;  // as transformers

  // Makes the folder. A file holds tensors of `most_bytes` together, or one that is larger.
  ModelWriter(std::filesystem::path folder, std::vector<DeclaredTensor> tensors,
              std::int64_t most_bytes = kDefaultShardBytes);
  // Removes what finish() did not make final.
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // The next bytes of the tensors, which follow one another in their order, contiguous and without gaps.
  void write(const void* data, std::int64_t bytes);
  // After the last tensor. Returns the number of files of weights.
  int finish();

 private:
  struct Shard {
    std::size_t begin;  // tensors
    std::size_t end;
    std::int64_t bytes;
  };
  std::string final_name(std::size_t shard) const;
  std::filesystem::path working_path(std::size_t shard) const;
  void open_next_shard();
  void write_index() const;
  void remove_former_weights() const;

  const std::filesystem::path folder_;
  const std::vector<DeclaredTensor> tensors_;
  std::vector<Shard> shards_;
  std::unique_ptr<DurableFile> file_;
  std::size_t shards_begun_ = 0;
  std::int64_t left_in_shard_ = 0;
};

}  // namespace deepscale
