#include "runtime/checkpoint/saved_pieces.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "comm/base/error.h"

namespace deepscale {

SavedPieces::SavedPieces(const std::filesystem::path& folder, const std::vector<std::string>& files)
    : folder_(folder) {
  for (const std::string& name : files) {
    files_.emplace_back(folder / name);
    for (const auto& [tensor, entry] : files_.back().entries()) {
      const std::size_t mark = tensor.rfind('@');
      if (mark == std::string::npos || entry.dtype != "F32" || entry.shape.size() != 1) continue;
      const std::int64_t offset = std::strtoll(tensor.c_str() + mark + 1, nullptr, 10);
      runs_[tensor.substr(0, mark)].push_back({files_.size() - 1, tensor, offset, entry.shape[0]});
    }
  }
}

void SavedPieces::read(const ElementRange& range, float* destination) {
  const std::string key = range.parameter + "/" + range.quantity;
  std::int64_t filled = 0;
  for (const Run& run : runs_[key]) {
    const std::int64_t begin = std::max(run.offset, range.offset);
    const std::int64_t end = std::min(run.offset + run.numel, range.offset + range.numel);
    if (begin >= end) continue;
    if (begin == run.offset && end == run.offset + run.numel) {
      files_[run.file].read(run.name, destination + (begin - range.offset));
    } else {  // the whole run, since its checksum is that of the whole
      std::vector<float> values(static_cast<std::size_t>(run.numel));
      files_[run.file].read(run.name, values.data());
      std::copy(values.begin() + (begin - run.offset), values.begin() + (end - run.offset),
                destination + (begin - range.offset));
    }
    filled += end - begin;
  }
  if (filled == range.numel) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: {} of the {} elements of '{}' that this rank needs are in its files; was it "
                          "saved with another optimizer?",
                          folder_.string(), filled, range.numel, key));
}

}  // namespace deepscale
