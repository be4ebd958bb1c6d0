// Cutting buffers into parts, as collectives that consist of others do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "comm/communicator.h"

namespace deepscale {

inline Buffer part_of(const Buffer& buffer, std::int64_t offset, std::int64_t count) {
  if (count == 0) return {nullptr, 0, buffer.dtype, buffer.device};
  auto* data =
      static_cast<std::byte*>(buffer.data) + static_cast<std::size_t>(offset) * size_of(buffer.dtype);
  return {data, count, buffer.dtype, buffer.device};
}

// Nothing where both are the same memory.
inline void copy(const Buffer& from, const Buffer& to) {
  if (from.data != to.data && from.count > 0) std::memcpy(to.data, from.data, from.bytes());
}

// Memory for a buffer like `like` of `count` elements.
class Scratch {
 public:
  Scratch(const Buffer& like, std::int64_t count)
      : memory_(static_cast<std::size_t>(count) * size_of(like.dtype)),
        buffer_{memory_.data(), count, like.dtype, like.device} {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const Buffer& buffer() const { return buffer_; }

 private:
  std::vector<std::byte> memory_;
  const Buffer buffer_;
};

}  // namespace deepscale
