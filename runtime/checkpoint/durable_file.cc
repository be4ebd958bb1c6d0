#include "runtime/checkpoint/durable_file.h"

#include <fmt/core.h>

#include "comm/base/error.h"

namespace deepscale {

void replace_file(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path beside = path;
  beside += ".incomplete";
  {
    DurableFile file(beside);
    file.write(text.data(), text.size());
    file.finish();
  }
  std::error_code failure;
  std::filesystem::rename(beside, path, failure);
  if (failure) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot replace {}: {}", path.string(), failure.message()));
  }
  flush_folder(path.parent_path());
}

}  // namespace deepscale
