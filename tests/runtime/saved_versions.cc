#include "tests/runtime/saved_versions.h"

#include <algorithm>

#include "comm/base/error.h"
#include "runtime/checkpoint/saved_pieces.h"

namespace deepscale::testing {

void save_and_go_on(CheckpointSaver& saver, CheckpointPart part) {
  const std::shared_ptr<const void> data = part.tensors.front().data;
  const std::int64_t numel = part.tensors.front().shape.front();
  saver.start(std::move(part));
  saver.release_tensors();
  std::fill_n(static_cast<float*>(const_cast<void*>(data.get())), numel, -1.0F);
}

std::int64_t latest_version(const std::filesystem::path& directory) {
  if (!std::filesystem::exists(directory / "latest")) return 0;
  const std::filesystem::path folder = directory / latest_tag(directory);
  const CheckpointIndex index = read_checkpoint_index(folder);
  SavedPieces saved(folder, index.files);
  std::vector<float> values(static_cast<std::size_t>(index.parameters.at("weight").front()));
  saved.read({"weight", "master", 0, static_cast<std::int64_t>(values.size())}, "F32", values.data());
  for (const float value : values) {
    if (value != static_cast<float>(index.global_steps))
      throw Error(ErrorCode::kInternal, folder.string() + " mixes versions");
  }
  return index.global_steps;
}

}  // namespace deepscale::testing
