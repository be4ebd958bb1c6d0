// The folder of a checkpoint: what belongs to it, and when it counts as there.
//
//   DIRECTORY/latest                     the tag of the newest checkpoint
//   DIRECTORY/TAG/checkpoint.json        what belongs to the checkpoint: files, shapes, counters
//   DIRECTORY/TAG/ID.rank_N.safetensors  what rank N updates: "master", "exp_avg" and "exp_avg_sq" of runs of
//                                        elements of named parameters, "weight/master@128"; its shards of
//                                        frozen ones, "weight/frozen@128"; rank 0 adds "buffer/NAME" and
//                                        the frozen ones that every rank has whole
//
// A checkpoint is there once its checkpoint.json is, which is replaced in one step after all files are on the
// disk; `latest` follows. So whatever ends a save, the previous checkpoint loads, also one of the same tag.
//
// Blocking. Errors name the file: kNotFound, kSystem with the system's text, kProtocol for a damaged one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace deepscale {

struct CheckpointIndex {
  std::vector<std::string> files;                               // in the order of ranks
  std::map<std::string, std::vector<std::int64_t>> parameters;  // shapes of the trainable ones
  std::map<std::string, std::vector<std::int64_t>> frozen_parameters;
  std::int64_t micro_steps = 0;
  std::int64_t global_steps = 0;
  std::int64_t skipped_steps = 0;
  std::int64_t optimizer_steps = 0;
  std::int64_t samples = 0;  // of all ranks together, up to here
  struct Scaler {
    double scale = 1.0;
    std::int64_t hysteresis_left = 0;
    std::int64_t step = 0;
    std::int64_t last_overflow_step = 0;
    bool is_dynamic = true;
  } loss_scaler;
  std::string client_state;
};

// The name of a rank's file in a save of this id.
std::string checkpoint_file_name(std::int64_t id, int rank);

// What `latest` says. Error(kNotFound) when nothing was saved there.
std::string latest_tag(const std::filesystem::path& directory);

CheckpointIndex read_checkpoint_index(const std::filesystem::path& folder);

// Makes the checkpoint of this tag the one of `index`, whose files are on the disk, then moves `latest`, and
// removes files of earlier saves of the tag.
void commit_checkpoint(const std::filesystem::path& directory, const std::string& tag,
                       const CheckpointIndex& index);

// Removes the oldest checkpoints of the directory, by the time of their commit, until `keep` are left; never
// the one of `tag`. What cannot be removed stays. A checkpoint whose removal was interrupted is none any
// more.
void keep_last_checkpoints(const std::filesystem::path& directory, const std::string& tag, int keep);

}  // namespace deepscale
