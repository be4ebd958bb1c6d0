// A checkpoint of tensors that all have one number, their version, so that a mixture of two saves shows.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_saver.h"

namespace deepscale::testing {

constexpr int kSavingRanks = 3;
// Elements of a rank.
constexpr std::int64_t kFew = 5000;
constexpr std::int64_t kMany = 300'000;  // more than a buffer of a DurableFile

// What rank `rank` saves: its third of "weight", which is `version` everywhere.
inline CheckpointPart part_of_version(const std::filesystem::path& directory, const std::string& tag,
                                      std::int64_t version, int rank, std::int64_t numel = kFew) {
  const auto values =
      std::make_shared<std::vector<float>>(static_cast<std::size_t>(numel), static_cast<float>(version));
  CheckpointPart part{.directory = directory, .tag = tag, .id = version, .rank = rank};
  const std::string name = "weight/master@" + std::to_string(rank * numel);
  part.tensors.push_back({name, "F32", {numel}, std::shared_ptr<const void>(values, values->data())});
  if (rank != 0) return part;
  part.index.emplace();
  for (int i = 0; i < kSavingRanks; ++i) part.index->files.push_back(checkpoint_file_name(version, i));
  part.index->parameters = {{"weight", {kSavingRanks * numel}}};
  part.index->global_steps = version;
  return part;
}

// Starts the save, and goes on as training does: the tensors have other values when it returns.
void save_and_go_on(CheckpointSaver& saver, CheckpointPart part);

// The version of the checkpoint that `latest` names, 0: there is none. Throws where it is not whole, or its
// elements are not all of one version.
std::int64_t latest_version(const std::filesystem::path& directory);

}  // namespace deepscale::testing
