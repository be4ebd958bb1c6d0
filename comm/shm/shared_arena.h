// Memory that all ranks of a host allocated together: each has a part of the same size, and can reach the
// parts of all others.
//
// The object belongs to whoever holds memory of it. It keeps its mappings, so that a peer that still reads or
// writes here is never at the mercy of a rank that has let go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/shm/shared_segment.h"

namespace deepscale::shm {

class SharedArena {
 public:
  // `parts` by rank.
  SharedArena(std::uint64_t id, int rank, std::vector<SharedSegment> parts)
      : id_(id), rank_(rank), parts_(std::move(parts)) {}

  std::uint64_t id() const { return id_; }  // the same on all ranks, never 0
  std::byte* part(int rank) const { return parts_[static_cast<std::size_t>(rank)].data(); }
  std::byte* own() const { return part(rank_); }
  std::size_t bytes() const { return parts_.front().size(); }

 private:
  const std::uint64_t id_;
  const int rank_;
  const std::vector<SharedSegment> parts_;
};

// Where a buffer lies in the own part of an arena; no arena: elsewhere.
struct ArenaPlace {
  std::shared_ptr<const SharedArena> arena;
  std::uint64_t offset = 0;
};

// The arenas of one communicator. One thread at a time.
class SharedArenas {
 public:
  // Every rank calls it in the same order with the same size; `communicator` carries the agreement. An Error
  // on all ranks together when one of them cannot get its part.
  std::shared_ptr<std::byte> allocate(Communicator& communicator, std::size_t bytes);
  // The place of `buffer`, if it lies wholly in an arena that is still held.
  ArenaPlace find(const Buffer& buffer);

 private:
  std::uint64_t last_id_ = 0;
  std::vector<std::weak_ptr<const SharedArena>> arenas_;
};

// One segment, which rank 0 makes and all ranks map. As allocate(); collectives do not know of it.
std::shared_ptr<std::byte> allocate_common(Communicator& communicator, std::size_t bytes);

}  // namespace deepscale::shm
