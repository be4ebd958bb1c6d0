// Checkpoints that load on any number of ranks and at any stage.
//
//   DIRECTORY/latest                     the tag of the newest checkpoint
//   DIRECTORY/TAG/checkpoint.json        what belongs to the checkpoint: files, shapes, counters
//   DIRECTORY/TAG/ID.rank_N.safetensors  what rank N updates: "master", "exp_avg" and "exp_avg_sq" of runs of
//                                        elements of named parameters, "weight/master@128"; rank 0 adds
//                                        frozen parameters and buffers
//
// All ranks write at the same time. A checkpoint exists once its checkpoint.json does, which is replaced in
// one step after all files are on the disk; `latest` follows. So whatever ends a save, a crash or a full
// disk, the previous checkpoint loads, also one of the same tag. Every tensor has a checksum. Loading looks
// for the elements that a rank needs wherever they were written.
//
// The folder is one that all ranks see. Collective and blocking; an error on one rank is an error on all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/engine/model_tensors.h"
#include "runtime/engine/optimizer.h"
#include "runtime/engine/zero_stage.h"
#include "runtime/schedule/loss_scaler.h"

namespace deepscale {

struct TrainingProgress {
  std::int64_t micro_steps = 0;
  std::int64_t global_steps = 0;
  std::int64_t skipped_steps = 0;
};

// What is saved and restored.
struct CheckpointSubject {
  const ModelTensors& tensors;
  ZeroStage& stage;
  Optimizer& optimizer;
  LossScaler& loss_scaler;
  TrainingProgress& progress;
  TensorCollectives& collectives;
};

struct CheckpointName {
  std::filesystem::path directory;
  std::string tag;
};

void save_checkpoint(const CheckpointSubject& subject, const CheckpointName& name,
                     const std::string& client_state);

// An empty tag: what `latest` says. Fills in the tag and returns the client state. Error(kNotFound) where
// there is none; Error(kInvalidArgument) for one of another model or optimizer; Error(kProtocol) for a
// damaged file, by its name. After an error the subject may be half restored.
std::string load_checkpoint(const CheckpointSubject& subject, CheckpointName& name);

}  // namespace deepscale
