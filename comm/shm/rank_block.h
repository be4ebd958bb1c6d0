// What the ranks of a host show each other: the layout of their shared memory segment.
//
//   RankBlock x size          who the rank is, how it fares, which operation it is in
//   Posted x size             data of small operations, where it does not lie in the RankBlock
//   (Stages, Pipe x size)     of each rank: for large operations; for send and receive, one for every
//     x size                  destination
//
// What every rank looks at lies together, so that many of them need few pages. The owner writes, the peers
// read; only Pipe::read and the doorbells are written by others. Double buffers are used in turns. Nobody has
// to say that it has read one of them: all ranks take the same steps in the same order and say which they
// have reached, so a rank that has seen all peers reach step n knows that they are through with what it
// showed them at step n - 1, and may write over it at step n + 1.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "comm/message_header.h"
#include "comm/shm/doorbell.h"
#include "comm/shm/host_processes.h"

namespace deepscale::shm {

inline constexpr std::size_t kCacheLine = 64;
// The largest operation whose data travels with its announcement.
inline constexpr std::size_t kPostedBytes = 32 << 10;
// Of that, what lies in the announcement itself: a page of every rank less for every rank to open.
inline constexpr std::size_t kBytesInPost = 3 * kCacheLine;
// A stage. As much of it is used as fits, with the other three, into the second-level cache; all of it where
// ranks share processors, since every piece then costs the sleep and the wake-up of all of them.
inline constexpr std::size_t kStageBytes = 1 << 20;
inline constexpr std::size_t kCachedStageBytes = 256 << 10;
inline constexpr std::size_t kPipeSlots = 4;

enum class Life : std::uint32_t { kRunning, kLeft, kGaveUp };
enum class Lane : std::uint8_t { kCollectives, kPipes };  // each has a doorbell
inline constexpr std::size_t kLanes = 2;

// The announcement of a collective: one cache line, and the data where it is that little.
struct alignas(kCacheLine) Post {
  std::atomic<std::uint64_t> number;  // of the collective; written last
  MessageHeader header;
  std::uint64_t arena;  // what the peers read lies there, or 0: nowhere where they can
  std::uint64_t offset;
  alignas(kCacheLine) std::array<std::byte, kBytesInPost> data;
};
static_assert(sizeof(Post) == kCacheLine + kBytesInPost && std::atomic<std::uint64_t>::is_always_lock_free);

using Stage = std::array<std::byte, kStageBytes>;

struct RankBlock {
  ProcessIdentity process;
  ProcessorSet processors;
  alignas(kCacheLine) std::atomic<Life> life;
  std::array<char, 1020> farewell;  // why it gave up; written before `life`
  std::array<Doorbell::Word, kLanes> doorbells;
  std::array<Post, 2> posts;
  alignas(kCacheLine) std::atomic<std::uint64_t> step;  // of large operations, counted over all of them
};

using Posted = std::array<std::array<std::byte, kPostedBytes>, 2>;

struct Stages {
  std::array<Stage, 2> inputs;   // parts that peers take
  std::array<Stage, 2> results;  // reduced parts that peers take
};

// A ring of slots from one rank to another; both counters only grow.
struct Pipe {
  struct alignas(kCacheLine) Counter {
    std::atomic<std::uint64_t> value;
  };
  Counter written;                                // slots filled, by the sender
  Counter read;                                   // slots emptied, by the receiver
  std::array<MessageHeader, kPipeSlots> headers;  // of the message that the slot is a piece of
};

inline std::size_t pipe_slot_bytes(int size) {
  constexpr std::size_t kAllPipesBytes = 2 << 20;
  const std::size_t share = kAllPipesBytes / kPipeSlots / static_cast<std::size_t>(size);
  return std::clamp<std::size_t>(share / kCacheLine * kCacheLine, 4 << 10, 128 << 10);
}

// Where things lie in the segment, in bytes from its beginning.
class SegmentLayout {
 public:
  explicit SegmentLayout(int size)
      : ranks_(static_cast<std::size_t>(size)), slot_bytes_(pipe_slot_bytes(size)) {}

  std::size_t block(int rank) const { return index(rank) * sizeof(RankBlock); }
  std::size_t posted(int rank) const { return posted_begin() + index(rank) * sizeof(Posted); }
  std::size_t stages(int rank) const { return bulk_begin() + index(rank) * bulk_bytes(); }
  std::size_t pipe(int from, int to) const {
    return stages(from) + sizeof(Stages) + index(to) * pipe_bytes();
  }
  std::size_t pipe_bytes() const { return sizeof(Pipe) + kPipeSlots * slot_bytes_; }
  // Stages and pipes of one rank.
  std::size_t bulk_bytes() const { return whole_pages(sizeof(Stages) + ranks_ * pipe_bytes()); }
  std::size_t bytes() const { return bulk_begin() + ranks_ * bulk_bytes(); }

 private:
  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  static std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
  std::size_t posted_begin() const { return whole_pages(ranks_ * sizeof(RankBlock)); }
  std::size_t bulk_begin() const { return whole_pages(posted_begin() + ranks_ * sizeof(Posted)); }

  static constexpr std::size_t kPage = 4096;
  std::size_t ranks_;
  std::size_t slot_bytes_;
};
static_assert(sizeof(Pipe) % kCacheLine == 0 && sizeof(RankBlock) % kCacheLine == 0);

}  // namespace deepscale::shm
