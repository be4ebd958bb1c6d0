#include "comm/tcp/channel.h"

#include <algorithm>
#include <bit>

namespace deepscale::tcp {

namespace {

constexpr std::size_t kHeaderBytes = sizeof(MessageHeader);
constexpr std::size_t kForgottenAtOnce = 64 * 1024;
constexpr std::size_t kLongestFarewell = 1024;

}  // namespace

bool Channel::Direction::contains(const Operation& operation) const {
  return std::any_of(queue.begin(), queue.end(),
                     [&](const Transfer* transfer) { return transfer->operation == &operation; });
}

Channel::Channel(int peer, std::unique_ptr<Connection> connection, Owner& owner)
    : peer_(peer), connection_(std::move(connection)), owner_(owner) {}

bool Channel::is_needed_by(const Operation& operation) const {
  return outgoing_.contains(operation) || incoming_.contains(operation);
}

void Channel::send(Transfer& transfer) {
  enqueue(outgoing_, transfer);
  continue_sending();
}

void Channel::receive(Transfer& transfer) {
  enqueue(incoming_, transfer);
  if (incoming_.queue.size() == 1) accept_payload(0);  // its header may be here already
  continue_receiving();
}

void Channel::enqueue(Direction& direction, Transfer& transfer) {
  direction.queue.push_back(&transfer);
  if (state_ == State::kOpen && ended_) owner_.peer_lost(peer_, *transfer.operation, *ended_);
}

void Channel::continue_sending() {
  if (!is_usable() || outgoing_.busy || outgoing_.queue.empty()) return;
  const Transfer& transfer = *outgoing_.queue.front();
  const auto header = std::as_bytes(std::span(&transfer.header, 1)).subspan(outgoing_.header_bytes);
  const auto payload = transfer.next_piece();
  if (header.empty() && payload.empty()) return;
  outgoing_.busy = true;
  connection_->write_some(header, payload,
                          [this](const std::string& failure, std::size_t bytes) { on_sent(failure, bytes); });
}

void Channel::on_sent(const std::string& failure, std::size_t bytes) {
  outgoing_.busy = false;
  if (state_ == State::kDraining) connection_->end_writing();  // that was the farewell
  if (state_ != State::kOpen) return owner_.io_returned();
  if (!failure.empty()) return on_connection_ended(failure);
  const std::size_t header_bytes = std::min(bytes, kHeaderBytes - outgoing_.header_bytes);
  outgoing_.header_bytes += header_bytes;
  if (outgoing_.has_header()) advance(outgoing_, bytes - header_bytes);
  if (state_ == State::kOpen && ended_) return on_connection_ended(*ended_);
  continue_sending();
}

void Channel::continue_receiving() {
  if (!is_usable() || incoming_.busy) return;
  const auto room = room_for_next_bytes();
  if (room.empty()) return;
  incoming_.busy = true;
  connection_->read_some(
      room, [this](const std::string& failure, std::size_t bytes) { on_received(failure, bytes); });
}

std::span<std::byte> Channel::room_for_next_bytes() {
  if (!incoming_.has_header()) return std::span(received_header_).subspan(incoming_.header_bytes);
  if (!farewell_.empty()) return std::as_writable_bytes(std::span(farewell_)).subspan(farewell_bytes_);
  if (incoming_.queue.empty()) return {};  // the peer is ahead of us
  return incoming_.queue.front()->next_piece();
}

void Channel::on_received(const std::string& failure, std::size_t bytes) {
  incoming_.busy = false;
  if (state_ == State::kDraining && failure.empty()) return forget_next_bytes();
  if (state_ == State::kDraining) close();
  if (state_ != State::kOpen) return owner_.io_returned();
  if (!failure.empty()) return on_connection_ended(failure);
  if (!incoming_.has_header()) {
    incoming_.header_bytes += bytes;
    accept_payload(0);
  } else if (!farewell_.empty()) {
    farewell_bytes_ += bytes;
    if (farewell_bytes_ == farewell_.size()) on_connection_ended("it gave up: " + farewell_);
  } else {
    accept_payload(bytes);
  }
  continue_receiving();
}

void Channel::accept_payload(std::size_t bytes) {
  if (!incoming_.has_header()) return;
  const auto theirs = std::bit_cast<MessageHeader>(received_header_);
  if (theirs.magic == kMessageMagic && theirs.kind == OperationKind::kFarewell) {
    farewell_.resize(std::clamp<std::size_t>(static_cast<std::size_t>(theirs.count), 1, kLongestFarewell));
    return;
  }
  if (incoming_.queue.empty()) return;
  const Transfer& next = *incoming_.queue.front();
  if (theirs != next.header) return owner_.ranks_disagree(peer_, *next.operation, theirs);
  advance(incoming_, bytes);
}

void Channel::advance(Direction& direction, std::size_t payload_bytes) {
  Transfer& transfer = *direction.queue.front();
  transfer.moved += payload_bytes;
  const bool finished = transfer.moved == transfer.total;
  if (finished) {
    direction.queue.pop_front();
    direction.header_bytes = 0;
  }
  if (transfer.on_moved) transfer.on_moved();
  if (finished) owner_.transfer_finished(*transfer.operation);
}

void Channel::on_connection_ended(const std::string& why) {
  if (!ended_) ended_ = why;
  if (incoming_.queue.empty() && outgoing_.busy) return;  // the peer may have got it all before it went
  const auto& waiting = incoming_.queue.empty() ? outgoing_.queue : incoming_.queue;
  if (!waiting.empty()) return owner_.peer_lost(peer_, *waiting.front()->operation, *ended_);
  connection_->close();
}

void Channel::stop() {
  state_ = State::kStopping;
  is_between_messages_ = !outgoing_.busy && outgoing_.header_bytes == 0;
  connection_->cancel();
}

void Channel::drain(const std::string& reason) {
  state_ = State::kDraining;
  outgoing_ = Direction();
  incoming_ = Direction();
  forgotten_.resize(kForgottenAtOnce);
  forget_next_bytes();
  if (!is_between_messages_) return connection_->end_writing();
  farewell_ = reason.substr(0, kLongestFarewell);
  farewell_header_ = {.kind = OperationKind::kFarewell, .count = static_cast<std::int64_t>(farewell_.size())};
  outgoing_.busy = true;
  connection_->write_some(std::as_bytes(std::span(&farewell_header_, 1)), std::as_bytes(std::span(farewell_)),
                          [this](const std::string& failure, std::size_t bytes) { on_sent(failure, bytes); });
}

void Channel::forget_next_bytes() {
  incoming_.busy = true;
  connection_->read_some(
      forgotten_, [this](const std::string& failure, std::size_t bytes) { on_received(failure, bytes); });
}

void Channel::close() {
  state_ = State::kClosed;
  connection_->close();
}

}  // namespace deepscale::tcp
