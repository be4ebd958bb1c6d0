// One operation in flight on this rank, as the transfers that it consists of.
//
//   Communicator method -> Operation -> Transfers, queued on the Channel of each peer -> Work done when all
//   have moved
//
// A Transfer is one message in one direction between this rank and one peer. It may hold back: a receive into
// a ring has room for `window` bytes only, a send may have to wait for its payload to be computed. `allowed`
// says how far it may go now.
//
// Everything here belongs to the communicator's thread, except WorkState, whose methods any thread may call.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "comm/base/clock.h"
#include "comm/base/error.h"
#include "comm/communicator.h"
#include "comm/message_header.h"

namespace deepscale::tcp {

class Operation;

struct Transfer {
  Operation* operation = nullptr;
  MessageHeader header;       // sent, or expected
  std::byte* data = nullptr;  // `window` bytes; a send only reads them
  std::size_t total = 0;      // bytes of payload
  std::size_t window = 0;  // the payload wraps around in `data` after so many bytes; `total` when it does not
  std::size_t allowed = 0;  // bytes that may have moved by now
  std::size_t moved = 0;
  std::function<void()> on_moved;  // after each piece

  // The contiguous bytes that may move next; empty when it has to wait or has moved everything.
  std::span<std::byte> next_piece() const {
    if (moved >= allowed) return {};
    const std::size_t position = moved % window;
    return {data + position, std::min(allowed - moved, window - position)};
  }
};

// What the caller's Work points to.
class WorkState final : public Work::State {
 public:
  bool is_done() const override;
  void wait() override;
  void finish(std::optional<Error> error);

 private:
  mutable std::mutex mutex_;
  std::condition_variable done_changed_;
  bool done_ = false;
  std::optional<Error> error_;
};

class Operation {
 public:
  Operation(const MessageHeader& header, Deadline deadline) : header_(header), deadline_(deadline) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  const MessageHeader& header() const { return header_; }
  Deadline deadline() const { return deadline_; }
  const std::shared_ptr<WorkState>& state() const { return state_; }

  // A message of this operation; the caller queues it on a channel.
  Transfer& add_transfer(const Buffer& buffer);
  // The messages added from now on belong to the next step.
  void next_step() { ++header_.step; }
  // `helper` lives as long as the transfers.
  void keep(std::shared_ptr<void> helper) { helpers_.push_back(std::move(helper)); }

  // An operation has as many parts as transfers, and its start. True when the last part has finished.
  bool finish_part() { return --unfinished_parts_ == 0; }
  bool has_finished() const { return unfinished_parts_ == 0; }

 private:
  MessageHeader header_;
  const Deadline deadline_;
  const std::shared_ptr<WorkState> state_ = std::make_shared<WorkState>();
  std::size_t unfinished_parts_ = 1;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::vector<std::shared_ptr<void>> helpers_;
};

}  // namespace deepscale::tcp
