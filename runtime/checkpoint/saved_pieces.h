// Looks for elements of parameters in the files of a checkpoint, wherever its ranks wrote them.
//
// Blocking; for one thread. Errors name the file, as those of SafetensorsReader.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/checkpoint/safetensors.h"

namespace deepscale {

// A run of elements of one quantity of a parameter, "weight" and "master". In the files it is one or more
// tensors of one dimension, "weight/master@OFFSET".
struct ElementRange {
  std::string parameter;
  std::string quantity;
  std::int64_t offset = 0;
  std::int64_t numel = 0;
};

// What the run of elements that begins at `offset` is called in a file.
std::string piece_name(const std::string& parameter, const std::string& quantity, std::int64_t offset);

class SavedPieces {
 public:
  // Opens the files in this order.
  SavedPieces(const std::filesystem::path& folder, const std::vector<std::string>& files);

  // Fills `destination` [range.numel], of safetensors' `dtype`. Error(kInvalidArgument) when the files do not
  // have all of it in that type.
  void read(const ElementRange& range, const std::string& dtype, void* destination);
  // "F32" where there is nothing of it.
  std::string dtype_of(const std::string& parameter, const std::string& quantity) const;

  std::vector<SafetensorsReader>& files() { return files_; }

 private:
  struct Run {
    std::size_t file;
    std::string name;
    std::string dtype;
    std::int64_t offset;
    std::int64_t numel;
  };
  std::filesystem::path folder_;
  std::vector<SafetensorsReader> files_;
  std::map<std::string, std::vector<Run>> runs_;  // by "parameter/quantity"
};

}  // namespace deepscale
