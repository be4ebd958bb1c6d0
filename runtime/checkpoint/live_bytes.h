// Memory that a save reads where it is, until training is about to change it.
//
// The reader takes the bytes of all runs in the order in which they were added. Who wants to change them
// calls release() first, which copies what the reader has not had: from the end, so that the reader goes on
// from the begin meanwhile, and what it takes need not be copied. A reader that is through by then costs no
// copy.
//
//   |---- read ----|- being read -|---- live ----|- being copied -|---- copies ----|
//                               front ->      <- back
//
// Threads: add() before anything else; then one reader calls the sources that add() gave and close(), and
// another thread release(). A source blocks no longer than one block is copied; release() blocks for its
// copies, and for runs that cannot be copied until they were read. Where memory for a copy is lacking it
// waits for the reader instead.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/checkpoint/safetensors.h"

namespace deepscale {

class LiveBytes {
 public:
  LiveBytes() = default;
  LiveBytes(const LiveBytes&) = delete;
  LiveBytes& operator=(const LiveBytes&) = delete;

  // The source gives the bytes as they were before release(). Both, and what is added, outlive the reading.
  ByteSource add(const void* data, std::int64_t bytes);
  // Of what cannot be copied.
  ByteSource add(ByteSource source, std::int64_t bytes);

  // When it returns, nobody reads what was added any more.
  void release();
  // The reader is through, or has given up.
  void close();

 private:
  struct Run {
    std::int64_t begin;  // among the bytes of all runs
    const std::byte* data;
    ByteSource source;  // where `data` is null
  };
  struct Block {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    const std::byte* live = nullptr;
    std::unique_ptr<std::byte[]> bytes;
  };

  ByteSource add(Run run, std::int64_t bytes);
  void read(const Run& run, std::int64_t begin, std::int64_t bytes, std::byte* destination);
  void read_copies(std::int64_t begin, std::int64_t end, std::byte* destination,
                   std::unique_lock<std::mutex>& lock);
  // To be copied next; without bytes where that is not possible.
  Block last_live_block() const;

  std::deque<Run> runs_;
  std::int64_t bytes_ = 0;  // of all runs
  std::mutex mutex_;
  std::condition_variable changed_;
  std::int64_t front_ = 0;
  std::int64_t back_ = 0;
  bool is_reading_ = false;   // what is live
  std::deque<Block> copies_;  // from back_ on, once they are made
};

}  // namespace deepscale
