// What a collective moves between the ranks, whichever way the bytes travel.
//
//               rank `from` gives rank `to`       ... which goes to
//   reduce_scatter  slice `to` of its input       the reduction, with that of all others: the output
//   all_reduce      slice `to` of its buffer      the reduction; the result is then gathered: slice `to`
//   all_gather      its input                     slice `from` of the output
//   broadcast       the root its buffer           the buffer
//   all_to_all      slice `to` of its input       slice `from` of the output
//
// A pure function of the operation and the size of the world; everything is in bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "comm/reduction.h"
#include "comm/shm/operation.h"

namespace deepscale::shm {

struct Part {
  std::size_t offset = 0;
  std::size_t bytes = 0;
  // The piece of it from `begin` on that is at most `most` long; empty behind the end.
  Part piece(std::size_t begin, std::size_t most) const {
    const std::size_t from = std::min(begin, bytes);
    return {offset + from, std::min(bytes - from, most)};
  }
};

class Exchange {
 public:
  Exchange(const MessageHeader& header, int size) : header_(header), size_(size) {}

  bool reduces() const {
    return header_.kind == OperationKind::kReduceScatter || header_.kind == OperationKind::kAllReduce;
  }
  // Whether every rank gets the same from a given one.
  bool gives_all_the_same() const {
    return header_.kind == OperationKind::kAllGather || header_.kind == OperationKind::kBroadcast;
  }

  // Of the input of `from`: what `to` gets.
  Part given(int from, int to) const {
    switch (header_.kind) {
      case OperationKind::kAllReduce:
        return all_reduce_slice(to);
      case OperationKind::kBroadcast:
        return {0, from == header_.root ? input_bytes() : 0};
      case OperationKind::kAllGather:
        return {0, input_bytes()};
      case OperationKind::kReduceScatter:
      case OperationKind::kAllToAll:
        return equal_slice(to);
      default:
        return {};
    }
  }
  // Of the output: where that from `from` goes.
  Part taken(int from) const {
    if (header_.kind == OperationKind::kAllReduce) return all_reduce_slice(from);
    const Part part = given(from, 0);
    if (header_.kind == OperationKind::kBroadcast) return part;
    return {static_cast<std::size_t>(from) * part.bytes, part.bytes};
  }
  // The slice of an all_reduce that `rank` reduces.
  Part all_reduce_slice(int rank) const {
    const Slice slice = slice_of(header_.count, rank, size_);
    return {static_cast<std::size_t>(slice.offset) * element(),
            static_cast<std::size_t>(slice.count) * element()};
  }
  // No part is larger.
  std::size_t largest_part() const {
    switch (header_.kind) {
      case OperationKind::kBroadcast:
        return input_bytes();
      default:
        return given(0, 0).bytes;
    }
  }
  std::size_t input_bytes() const {
    const auto bytes = static_cast<std::size_t>(header_.count) * element();
    return header_.kind == OperationKind::kReduceScatter ? bytes * static_cast<std::size_t>(size_) : bytes;
  }

 private:
  std::size_t element() const { return size_of(header_.dtype); }
  Part equal_slice(int rank) const {
    const std::size_t bytes = input_bytes() / static_cast<std::size_t>(size_);
    return {static_cast<std::size_t>(rank) * bytes, bytes};
  }

  const MessageHeader& header_;
  const int size_;
};

}  // namespace deepscale::shm
