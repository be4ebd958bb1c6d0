#include "runtime/checkpoint/checkpoint_saver.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "comm/base/error.h"
#include "runtime/checkpoint/durable_file.h"

namespace deepscale {
namespace {

namespace fs = std::filesystem;

constexpr auto kLookAgain = std::chrono::milliseconds(5);

// The shared tensors are read through what it returns from now on, those that cannot be copied first.
std::unique_ptr<LiveBytes> live_bytes_of(std::vector<TensorToSave>& tensors) {
  std::stable_partition(tensors.begin(), tensors.end(),
                        [](const TensorToSave& tensor) { return tensor.is_shared && tensor.read; });
  auto live = std::make_unique<LiveBytes>();
  for (TensorToSave& tensor : tensors) {
    if (!tensor.is_shared) continue;
    const std::int64_t bytes = stored_bytes(tensor.dtype, tensor.shape);
    tensor.read =
        tensor.read ? live->add(std::move(tensor.read), bytes) : live->add(tensor.data.get(), bytes);
  }
  return live;
}

fs::path failure_note(const fs::path& file) {
  fs::path note = file;
  return note += ".failed";
}

// As a whole: rank 0 may look at any moment.
void leave_failure_note(const fs::path& file, const char* why) {
  const fs::path note = failure_note(file);
  fs::path working = note;
  working += ".incomplete";
  std::ofstream(working) << why;
  std::error_code ignored;
  fs::rename(working, note, ignored);
}

void write_part(const CheckpointPart& part) {
  const fs::path folder = part.directory / part.tag;
  const fs::path file = folder / checkpoint_file_name(part.id, part.rank);
  fs::path working = file;
  working += ".incomplete";
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot save a checkpoint: cannot make the folder {}: {}",
                                                folder.string(), failure.message()));
  }
  std::vector<StoredTensor> stored;
  for (const TensorToSave& tensor : part.tensors) {
    const void* data = tensor.read ? nullptr : tensor.data.get();
    stored.push_back({tensor.name, tensor.dtype, tensor.shape, data, tensor.read});
  }
  try {
    write_safetensors(working, stored);
    fs::rename(working, file, failure);
    if (failure) {
      throw Error(ErrorCode::kSystem, fmt::format("cannot rename {} to {}: {}", working.string(),
                                                  file.string(), failure.message()));
    }
    flush_folder(folder);
  } catch (const std::exception& error) {
    fs::remove(working, failure);
    if (part.rank != 0) leave_failure_note(file, error.what());
    throw;
  }
}

std::string first_line_of(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

CheckpointSaver::~CheckpointSaver() {
  if (thread_.joinable()) thread_.join();
}

void CheckpointSaver::enter(State state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
  changed_.notify_all();
}

void CheckpointSaver::start(CheckpointPart part) {
  wait();
  if (thread_.joinable()) thread_.join();
  live_ = live_bytes_of(part.tensors);
  {
    const std::lock_guard lock(mutex_);
    state_ = State::kWriting;
    given_up_.clear();
  }
  try {
    thread_ = std::thread([this, moved = std::move(part)]() mutable { run(std::move(moved)); });
  } catch (const std::exception&) {  // there is no thread
    keep_failure();
    enter(State::kIdle);
  }
}

void CheckpointSaver::run(CheckpointPart part) {
  try {
    write_part(part);
    live_->close();
    part.tensors.clear();
    enter(State::kCommitting);
    if (part.index) {
      await_files(part);
      commit_checkpoint(part.directory, part.tag, *part.index);
      if (part.keep_last > 0) keep_last_checkpoints(part.directory, part.tag, part.keep_last);
    }
  } catch (const std::exception&) {
    keep_failure();
  }
  enter(State::kIdle);  // nobody else holds the failure by now
}

void CheckpointSaver::keep_failure() {
  live_->close();
  const std::lock_guard lock(mutex_);
  failure_ = std::current_exception();
}

void CheckpointSaver::await_files(const CheckpointPart& part) {
  const fs::path folder = part.directory / part.tag;
  const auto deadline = std::chrono::steady_clock::now() + part.patience;
  for (std::size_t rank = 0; rank < part.index->files.size(); ++rank) {
    const fs::path file = folder / part.index->files[rank];
    std::error_code ignored;
    while (!fs::exists(file, ignored)) {
      const fs::path note = failure_note(file);
      if (fs::exists(note, ignored)) {
        const std::string reason = first_line_of(note);
        fs::remove(note, ignored);
        throw Error(ErrorCode::kAborted,
                    fmt::format("saving a checkpoint failed on rank {}: {}", rank, reason));
      }
      std::unique_lock lock(mutex_);
      if (!given_up_.empty()) throw Error(ErrorCode::kAborted, given_up_);
      if (std::chrono::steady_clock::now() > deadline) {
        throw Error(ErrorCode::kTimeout, fmt::format("saving a checkpoint: {} of rank {} did not come within "
                                                     "{} s; do all ranks see this folder?",
                                                     file.string(), rank, part.patience.count() / 1000));
      }
      changed_.wait_for(lock, kLookAgain);
    }
  }
}

bool CheckpointSaver::is_busy() const {
  const std::lock_guard lock(mutex_);
  return state_ != State::kIdle;
}

// States follow one another in the order of their values, and end in kIdle.
void CheckpointSaver::wait_until_past(State state) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return state_ == State::kIdle || state_ > state; });
  if (state_ == State::kIdle && failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void CheckpointSaver::release_tensors() {
  if (live_) live_->release();
}

void CheckpointSaver::wait_for_write() {
  wait_until_past(State::kWriting);
}

void CheckpointSaver::wait() {
  wait_until_past(State::kCommitting);
}

void CheckpointSaver::give_up(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  given_up_ = reason;
  changed_.notify_all();
}

}  // namespace deepscale
