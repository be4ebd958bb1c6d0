// Saves a rank's part of a checkpoint while training goes on.
//
//   idle --start()--> writing --> (rank 0: waiting for the others' files --> committing) --> idle
//
// start() returns at once; a thread of its own writes the tensors from where they are to this rank's file.
// release_tensors() must come before they are changed, and copies what was not written by then
// (live_bytes.h); the forward and backward passes of a training step only read them. Rank 0 commits the
// checkpoint when the files of all ranks are on the disk, which it sees in the folder: a file has its name
// only once it is complete. A rank whose write failed leaves a ".failed" file with its message for it, where
// that can still be written.
//
// Whoever dies when, by whatever signal: the previous checkpoint stays, or the new one is complete.
//
// Ownership: the saver keeps the tensors until they are written. Threads: one thread calls it. Failures are
// kept and thrown by wait_for_write(), wait() and the next start(): Error(kSystem) that names the file and
// has the system's text, Error(kTimeout) when a rank's file did not come.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/live_bytes.h"
#include "runtime/checkpoint/safetensors.h"

namespace deepscale {

struct TensorToSave {
  std::string name;
  std::string dtype;  // as in safetensors.h
  std::vector<std::int64_t> shape;
  std::shared_ptr<const void> data;  // contiguous
  bool is_shared = true;             // training will change it
  ByteSource read;                   // instead of `data` where it is given; called by the saver's thread
};

struct CheckpointPart {
  std::filesystem::path directory;
  std::string tag;
  std::int64_t id = 0;  // of this save, the same on all ranks
  int rank = 0;
  std::vector<TensorToSave> tensors;
  std::optional<CheckpointIndex> index;                           // rank 0's, which commits
  int keep_last = 0;                                              // checkpoints of the directory; 0: all
  std::chrono::milliseconds patience = std::chrono::minutes(30);  // of rank 0 with the other ranks
};

class CheckpointSaver {
 public:
  CheckpointSaver() = default;
  // Waits as wait() does, and keeps quiet about failures.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  // Waits for the save before it.
  void start(CheckpointPart part);
  bool is_busy() const;
  // Returns when the tensors are read no more. Blocks for the copy of what is not written yet, and for those
  // that have a `read` and are shared until they were read.
  void release_tensors();
  // Until this rank's file is on the disk.
  void wait_for_write();
  // And, on rank 0, until the checkpoint is there.
  void wait();
  // Rank 0 shall not wait for files of other ranks any longer: the save fails with this reason.
  void give_up(const std::string& reason);

 private:
  enum class State { kIdle, kWriting, kCommitting };

  void run(CheckpointPart part);
  void await_files(const CheckpointPart& part);
  void enter(State state);
  void keep_failure();  // the exception that is being handled
  void wait_until_past(State state);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::kIdle;
  std::exception_ptr failure_;
  std::string given_up_;
  std::unique_ptr<LiveBytes> live_;  // of the last start()
  std::thread thread_;
};

}  // namespace deepscale
