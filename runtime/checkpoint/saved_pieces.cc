#include "runtime/checkpoint/saved_pieces.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "comm/base/error.h"

namespace deepscale {

std::string piece_name(const std::string& parameter, const std::string& quantity, std::int64_t offset) {
  return fmt::format("{}/{}@{}", parameter, quantity, offset);
}

SavedPieces::SavedPieces(const std::filesystem::path& folder, const std::vector<std::string>& files)
    : folder_(folder) {
  for (const std::string& name : files) {
    files_.emplace_back(folder / name);
    for (const auto& [tensor, entry] : files_.back().entries()) {
      const std::size_t mark = tensor.rfind('@');
      if (mark == std::string::npos || entry.shape.size() != 1) continue;
      const std::int64_t offset = std::strtoll(tensor.c_str() + mark + 1, nullptr, 10);
      runs_[tensor.substr(0, mark)].push_back(
          {files_.size() - 1, tensor, entry.dtype, offset, entry.shape[0]});
    }
  }
}

std::string SavedPieces::dtype_of(const std::string& parameter, const std::string& quantity) const {
  const auto found = runs_.find(parameter + "/" + quantity);
  return found == runs_.end() ? "F32" : found->second.front().dtype;
}

void SavedPieces::read(const ElementRange& range, const std::string& dtype, void* destination) {
  const std::string key = range.parameter + "/" + range.quantity;
  const std::int64_t element_bytes = stored_bytes(dtype, {1});
  const auto place = [&](std::int64_t element) {
    return static_cast<std::byte*>(destination) + (element - range.offset) * element_bytes;
  };
  std::int64_t filled = 0;
  for (const Run& run : runs_[key]) {
    if (run.dtype != dtype) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: '{}' is of type {} there and {} here",
                                                           folder_.string(), key, run.dtype, dtype));
    }
    const std::int64_t begin = std::max(run.offset, range.offset);
    const std::int64_t end = std::min(run.offset + run.numel, range.offset + range.numel);
    if (begin >= end) continue;
    if (begin == run.offset && end == run.offset + run.numel) {
      files_[run.file].read(run.name, place(begin));
    } else {  // the whole run, since its checksum is that of the whole
      std::vector<std::byte> values(static_cast<std::size_t>(run.numel * element_bytes));
      files_[run.file].read(run.name, values.data());
      std::memcpy(place(begin), values.data() + (begin - run.offset) * element_bytes,
                  static_cast<std::size_t>((end - begin) * element_bytes));
    }
    filled += end - begin;
  }
  if (filled == range.numel) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: {} of the {} elements of '{}' that are needed are in its files; was it saved "
                          "with another optimizer?",
                          folder_.string(), filled, range.numel, key));
}

}  // namespace deepscale
