#include "comm/shm/shared_arena.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <string>

#include "comm/base/error.h"

namespace deepscale::shm {

namespace {

// What a rank tells the others: the name of its segment, or nothing when it has none.
using Record = std::array<char, SharedSegment::kNameLength + 1>;

std::vector<Record> tell_all(Communicator& communicator, const std::string& name) {
  Record own{};
  name.copy(own.data(), SharedSegment::kNameLength);
  std::vector<Record> all(static_cast<std::size_t>(communicator.size()));
  const auto bytes = static_cast<std::int64_t>(own.size());
  communicator
      .all_gather({.data = own.data(), .count = bytes, .dtype = DType::kUInt8},
                  {.data = all.data(), .count = bytes * communicator.size(), .dtype = DType::kUInt8})
      .wait();
  return all;
}

// What `act` returns; nothing, and the failure, when it throws.
std::string attempt(std::optional<Error>& failure, const std::function<std::string()>& act) {
  try {
    return act();
  } catch (const Error& error) {
    failure.emplace(error);
    return {};
  }
}

void require_all(const char* operation, const std::vector<Record>& records,
                 const std::optional<Error>& own_failure) {
  if (own_failure) throw *own_failure;
  for (std::size_t rank = 0; rank < records.size(); ++rank) {
    if (records[rank][0] != '\0') continue;
    throw Error(ErrorCode::kSystem,
                fmt::format("{}: rank {} could not get its part; its own error says why", operation, rank));
  }
}

}  // namespace

std::shared_ptr<std::byte> SharedArenas::allocate(Communicator& communicator, std::size_t bytes) {
  const std::size_t part_bytes = std::max<std::size_t>(bytes, 1);
  std::optional<Error> failure;
  std::optional<SharedSegment> own;
  const std::string own_name = attempt(failure, [&] {
    own = SharedSegment::create(part_bytes);
    return own->name();
  });
  const auto names = tell_all(communicator, own_name);
  require_all("allocate_shared", names, failure);
  std::vector<SharedSegment> parts;
  const std::string mapped = attempt(failure, [&] {
    for (int rank = 0; rank < communicator.size(); ++rank) {
      const char* name = names[static_cast<std::size_t>(rank)].data();
      const bool is_own = rank == communicator.rank();
      parts.push_back(is_own ? std::move(*own) : SharedSegment::open(name, part_bytes));
    }
    return std::string("mapped");
  });
  require_all("allocate_shared", tell_all(communicator, mapped), failure);
  parts[static_cast<std::size_t>(communicator.rank())].forget_name();
  const auto arena = std::make_shared<const SharedArena>(++last_id_, communicator.rank(), std::move(parts));
  std::erase_if(arenas_, [](const auto& old) { return old.expired(); });
  arenas_.push_back(arena);
  return std::shared_ptr<std::byte>(arena, arena->own());
}

ArenaPlace SharedArenas::find(const Buffer& buffer) {
  const auto* data = static_cast<const std::byte*>(buffer.data);
  const std::less_equal<const std::byte*> not_after;
  for (const auto& weak : arenas_) {
    auto arena = weak.lock();
    if (arena == nullptr || !not_after(arena->own(), data)) continue;
    if (not_after(data + buffer.bytes(), arena->own() + arena->bytes())) {
      return {arena, static_cast<std::uint64_t>(data - arena->own())};
    }
  }
  return {};
}

std::shared_ptr<std::byte> allocate_common(Communicator& communicator, std::size_t bytes) {
  const std::size_t segment_bytes = std::max<std::size_t>(bytes, 1);
  std::optional<Error> failure;
  std::shared_ptr<SharedSegment> segment;
  const std::string name = attempt(failure, [&] {
    if (communicator.rank() != 0) return std::string("a guest");
    segment = std::make_shared<SharedSegment>(SharedSegment::create(segment_bytes));
    return segment->name();
  });
  const auto names = tell_all(communicator, name);
  require_all("allocate_common", names, failure);
  const std::string mapped = attempt(failure, [&] {
    if (communicator.rank() != 0)
      segment = std::make_shared<SharedSegment>(SharedSegment::open(names[0].data(), segment_bytes));
    return std::string("mapped");
  });
  require_all("allocate_common", tell_all(communicator, mapped), failure);
  segment->forget_name();
  return {segment, segment->data()};
}

}  // namespace deepscale::shm
