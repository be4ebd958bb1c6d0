#include "comm/tcp/streaming_reduction.h"

#include <algorithm>

#include "comm/reduction.h"

namespace deepscale::tcp {

namespace {

// Small enough to stay in the L2 cache between arrival and reduction, large enough to make system calls rare.
constexpr std::size_t kChunk = 256 * 1024;
constexpr std::size_t kChunksInRing = 4;

}  // namespace

StreamingReduction::StreamingReduction(Buffer own, Buffer output, ReduceOp op)
    : own_(own),
      output_(output),
      op_(op),
      total_(output.bytes()),
      window_(std::min(total_, kChunk * kChunksInRing)) {}

void StreamingReduction::add_own() {
  parts_.push_back(nullptr);
}

void StreamingReduction::add_peer(Channel& channel, Transfer& receive) {
  // Not value-initialised: the bytes are written before they are read.
  rings_.emplace_back(new std::byte[window_]);
  parts_.push_back(rings_.back().get());
  receive.data = rings_.back().get();
  receive.window = receive.allowed = window_;
  receive.on_moved = [this] { advance(); };
  receives_.push_back({&channel, &receive});
}

void StreamingReduction::add_result(Channel& channel, Transfer& send) {
  send.allowed = 0;
  results_.push_back({&channel, &send});
}

std::size_t StreamingReduction::bytes_from_everybody() const {
  std::size_t bytes = total_;
  for (const Link& link : receives_) bytes = std::min(bytes, link.transfer->moved);
  return bytes;
}

void StreamingReduction::advance() {
  const std::size_t arrived = bytes_from_everybody();
  const std::size_t before = reduced_;
  while (reduced_ < total_) {
    const std::size_t chunk = std::min(kChunk, total_ - reduced_);
    if (arrived - reduced_ < chunk) break;
    reduce_chunk(chunk);
  }
  if (reduced_ == before) return;
  for (const Link& link : receives_) {
    link.transfer->allowed = std::min(total_, reduced_ + window_);
    link.channel->continue_receiving();
  }
  for (const Link& link : results_) {
    link.transfer->allowed = reduced_;
    link.channel->continue_sending();
  }
}

void StreamingReduction::reduce_chunk(std::size_t bytes) {
  const std::byte* own = static_cast<const std::byte*>(own_.data) + reduced_;
  std::vector<const std::byte*> sources;
  for (const std::byte* part : parts_) sources.push_back(part == nullptr ? own : part + reduced_ % window_);
  std::byte* output = static_cast<std::byte*>(output_.data) + reduced_;
  reduce(sources, output, static_cast<std::int64_t>(bytes / size_of(output_.dtype)), output_.dtype, op_);
  reduced_ += bytes;
}

}  // namespace deepscale::tcp
