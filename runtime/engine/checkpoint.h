// Checkpoints that load on any number of ranks and at any stage.
//
// The folder's layout, and when a checkpoint counts as there, are in runtime/checkpoint/checkpoint_folder.h.
// All ranks write at the same time, beside training where they are asked to (checkpoint_saver.h). Every
// tensor has a checksum. Loading looks for the elements that a rank needs wherever they were written.
//
// The folder is one that all ranks see. Collective; an error on one rank is an error on all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/checkpoint/checkpoint_saver.h"
#include "runtime/engine/model_tensors.h"
#include "runtime/engine/optimizer.h"
#include "runtime/engine/zero_stage.h"
#include "runtime/schedule/loss_scaler.h"

namespace deepscale {

struct TrainingProgress {
  std::int64_t micro_steps = 0;
  std::int64_t global_steps = 0;
  std::int64_t skipped_steps = 0;
  std::int64_t samples = 0;  // of all ranks together
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

struct CheckpointSaveOptions {
  std::string client_state;
  int keep_last = 0;           // checkpoints of the directory; 0: all
  bool in_background = false;  // the optimizer's tensors are read after the call: see CheckpointSaver
};

// Starts saving; the save before it was waited for. Every rank writes its shards of the frozen parameters
// too, rank 0 those that every rank has whole. Blocks for the copies that it takes: on a device, and in the
// background of frozen parameters and buffers.
void start_checkpoint(const CheckpointSubject& subject, const CheckpointName& name,
                      const CheckpointSaveOptions& options, CheckpointSaver& saver);
// Until the checkpoint is there.
void finish_checkpoint(TensorCollectives& collectives, CheckpointSaver& saver);

// An empty tag: what `latest` says. Fills in the tag and returns the client state. Error(kNotFound) where
// there is none; Error(kInvalidArgument) for one of another model or optimizer; Error(kProtocol) for a
// damaged file, by its name. After an error the subject may be half restored.
std::string load_checkpoint(const CheckpointSubject& subject, CheckpointName& name);

// Writes the weights as the model has them, in its dtype, for transformers: rank 0 does, and at stage 3
// gathers one parameter at a time. Error as ModelWriter, on all ranks.
void save_model(const CheckpointSubject& subject, const std::filesystem::path& directory);

}  // namespace deepscale
