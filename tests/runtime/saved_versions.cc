#include "tests/runtime/saved_versions.h"

#include "comm/base/error.h"
#include "runtime/checkpoint/saved_pieces.h"

namespace deepscale::testing {

std::int64_t latest_version(const std::filesystem::path& directory) {
  if (!std::filesystem::exists(directory / "latest")) return 0;
  const std::filesystem::path folder = directory / latest_tag(directory);
  const CheckpointIndex index = read_checkpoint_index(folder);
  SavedPieces saved(folder, index.files);
  std::vector<float> values(static_cast<std::size_t>(index.parameters.at("weight").front()));
  saved.read({"weight", "master", 0, static_cast<std::int64_t>(values.size())}, values.data());
  for (const float value : values) {
    if (value != static_cast<float>(index.global_steps))
      throw Error(ErrorCode::kInternal, folder.string() + " mixes versions");
  }
  return index.global_steps;
}

}  // namespace deepscale::testing
