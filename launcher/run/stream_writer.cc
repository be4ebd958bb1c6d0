#include "launcher/run/stream_writer.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "launcher/run/standard_stream.h"

namespace deepscale {

struct StreamWriter::State {
  State(StandardStream which, std::function<void()> idle_callback)
      : stream(which), on_idle(std::move(idle_callback)) {}

  void run() {
    shield_thread_from_signals();
    std::string batch;
    bool reader_is_gone = false;
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return is_closed || wants_call || !pending.empty(); });
      if (is_closed) return;
      batch.clear();
      batch.swap(pending);
      is_writing = !batch.empty();
      lock.unlock();
      const std::error_code failure = reader_is_gone ? std::error_code() : write(batch);
      reader_is_gone = reader_is_gone || failure == std::errc::broken_pipe;
      batch.clear();
      lock.lock();
      is_writing = false;
      if (failure && !reader_is_gone) note_loss(failure);
      if (pending.empty() && wants_call && !is_closed) {
        wants_call = false;
        on_idle();
      }
    }
  }

  // In pieces, so that written_bytes tells of a slow reader that it reads.
  std::error_code write(std::string_view batch) {
    for (; !batch.empty(); batch.remove_prefix(std::min(batch.size(), kPieceBytes))) {
      const std::string_view piece = batch.substr(0, kPieceBytes);
      if (const auto failure = write_standard_stream(stream, piece)) return failure;
      written_bytes += piece.size();
    }
    return {};
  }

  void note_loss(std::error_code failure) {
    if (!has_lost_text) untold_error = failure;
    wants_call = wants_call || !has_lost_text;
    has_lost_text = true;
  }

  static constexpr std::size_t kPieceBytes = 64 << 10;
  const StandardStream stream;
  const std::function<void()> on_idle;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::string pending;
  std::atomic<std::uint64_t> written_bytes = 0;
  std::error_code untold_error;
  bool has_lost_text = false;
  bool is_writing = false;
  bool wants_call = false;
  bool is_started = false;
  bool is_closed = false;
};

StreamWriter::StreamWriter(StandardStream stream, std::function<void()> on_idle)
    : state_(std::make_shared<State>(stream, std::move(on_idle))) {}

StreamWriter::~StreamWriter() {
  std::lock_guard lock(state_->mutex);
  state_->is_closed = true;
  state_->changed.notify_one();
}

bool StreamWriter::append(std::string_view text) {
  std::lock_guard lock(state_->mutex);
  state_->pending.append(text);
  if (!state_->is_started) {
    state_->is_started = true;
    std::thread([state = state_] { state->run(); }).detach();
  }
  if (!state_->is_writing) state_->changed.notify_one();
  if (state_->pending.size() <= kLimitBytes) return true;
  state_->wants_call = true;
  return false;
}

bool StreamWriter::is_full() const {
  std::lock_guard lock(state_->mutex);
  return state_->pending.size() > kLimitBytes;
}

bool StreamWriter::is_idle() const {
  std::lock_guard lock(state_->mutex);
  return state_->pending.empty() && !state_->is_writing && !state_->untold_error;
}

std::error_code StreamWriter::take_error() {
  std::lock_guard lock(state_->mutex);
  return std::exchange(state_->untold_error, {});
}

bool StreamWriter::has_lost_text() const {
  std::lock_guard lock(state_->mutex);
  return state_->has_lost_text;
}

std::uint64_t StreamWriter::written_bytes() const {
  return state_->written_bytes;
}

void StreamWriter::call_when_idle() {
  std::lock_guard lock(state_->mutex);
  if (!state_->is_started) {
    state_->on_idle();
    return;
  }
  state_->wants_call = true;
  state_->changed.notify_one();
}

}  // namespace deepscale
