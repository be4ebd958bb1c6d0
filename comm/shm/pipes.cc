#include "comm/shm/pipes.h"

#include <algorithm>
#include <cstring>

namespace deepscale::shm {

Pipes::Pipes(Host& host, Waiter& waiter, Finish finish)
    : host_(host),
      waiter_(waiter),
      finish_(std::move(finish)),
      slot_bytes_(pipe_slot_bytes(host.size())),
      directions_(static_cast<std::size_t>(host.size()) * 2) {
  for (std::size_t i = 0; i < directions_.size(); ++i) {
    directions_[i].peer = static_cast<int>(i / 2);
    directions_[i].is_send = i % 2 == 1;
  }
}

// A message that does not fit into the ring needs this rank to go on for as long as it takes.
bool Pipes::start(Operation& operation) {
  const bool fits = operation.request().input.bytes() <= slot_bytes_ * kPipeSlots;
  const bool is_send = operation.request().is_send;
  Direction& direction = direction_of(operation);
  direction.queue.push_back(&operation);
  move(direction);
  return direction.queue.empty() || (!is_send && fits);
}

void Pipes::advance(const std::atomic<bool>& has_submissions) {
  const auto any_can_move = [&] {
    return std::any_of(directions_.begin(), directions_.end(),
                       [this](const Direction& direction) { return can_move(direction); });
  };
  waiter_.until(
      std::nullopt, [&] { return has_submissions.load() || any_can_move(); },
      [this] { return why_hopeless(); });
  for (Direction& direction : directions_) move(direction);
}

void Pipes::forget_all() {
  for (Direction& direction : directions_) {
    direction.queue.clear();
    direction.bytes_moved = 0;
    direction.has_begun = false;
  }
}

Pipes::Direction& Pipes::direction_of(const Operation& operation) {
  const auto peer = static_cast<std::size_t>(operation.request().peer);
  return directions_[peer * 2 + (operation.request().is_send ? 1 : 0)];
}

bool Pipes::can_move(const Direction& direction) {
  if (direction.queue.empty()) return false;
  const Pipe& pipe =
      direction.is_send ? host_.pipe(host_.rank(), direction.peer) : host_.pipe(direction.peer, host_.rank());
  const std::uint64_t filled = pipe.written.value.load() - pipe.read.value.load();
  return direction.is_send ? filled < kPipeSlots : filled > 0;
}

bool Pipes::move(Direction& direction) {
  bool moved = false;
  while (can_move(direction)) {
    const bool is_last = move_piece(direction);
    moved = true;
    host_.doorbell(direction.peer, Lane::kPipes).ring_if_asleep();
    if (!is_last) continue;
    Operation& operation = *direction.queue.front();
    direction.queue.pop_front();
    direction.bytes_moved = 0;
    finish_(operation);
  }
  return moved;
}

// True when it was the last piece of the message.
bool Pipes::move_piece(Direction& direction) {
  const Operation& operation = *direction.queue.front();
  const Buffer& buffer = operation.request().input;
  std::byte* data = static_cast<std::byte*>(buffer.data) + direction.bytes_moved;
  const std::size_t bytes = std::min(buffer.bytes() - direction.bytes_moved, slot_bytes_);
  const int rank = host_.rank();
  if (direction.is_send) {
    host_.take_pipe(direction.peer);
    Pipe& pipe = host_.pipe(rank, direction.peer);
    const std::uint64_t index = pipe.written.value.load();
    pipe.headers[index % kPipeSlots] = operation.header();
    if (bytes > 0) std::memcpy(host_.pipe_slot(rank, direction.peer, index), data, bytes);
    pipe.written.value.store(index + 1);
  } else {
    Pipe& pipe = host_.pipe(direction.peer, rank);
    const std::uint64_t index = pipe.read.value.load();
    const MessageHeader& theirs = pipe.headers[index % kPipeSlots];
    if (theirs != operation.header()) {
      throw Error(ErrorCode::kInvalidArgument,
                  describe_disagreement(rank, operation.header(), direction.peer, theirs));
    }
    if (bytes > 0) std::memcpy(data, host_.pipe_slot(direction.peer, rank, index), bytes);
    pipe.read.value.store(index + 1);
  }
  direction.bytes_moved += bytes;
  return direction.bytes_moved == buffer.bytes();
}

std::optional<Error> Pipes::why_hopeless() {
  if (host_.has_failed()) return host_.cause();
  for (const Direction& direction : directions_) {
    if (direction.queue.empty()) continue;
    if (auto why = waiter_.why_hopeless(*direction.queue.front(), direction.peer)) return why;
  }
  return std::nullopt;
}

}  // namespace deepscale::shm
