// One operation in flight on this rank: what the caller's Work points to.
//
// Made by the communicator, finished once by the thread that drives its OperationQueue; is_done() and wait()
// may come from any thread, also after the communicator has ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "comm/base/clock.h"
#include "comm/base/error.h"
#include "comm/communicator.h"
#include "comm/message_header.h"
#include "comm/shm/shared_arena.h"

namespace deepscale::shm {

class OperationQueue;

struct OperationRequest {
  MessageHeader header;
  Buffer input;
  Buffer output;
  int peer = -1;  // of a send or receive
  bool is_send = false;
  ArenaPlace read_place;  // where the peers read `input` in place, if they can
};

class Operation final : public Work::State {
 public:
  Operation(OperationQueue& queue, OperationRequest request, Deadline deadline)
      : request_(std::move(request)), deadline_(deadline), queue_(queue) {}

  const OperationRequest& request() const { return request_; }
  const MessageHeader& header() const { return request_.header; }
  Deadline deadline() const { return deadline_; }

  bool is_done() const override;
  void wait() override;

 private:
  friend class OperationQueue;
  const OperationRequest request_;
  const Deadline deadline_;
  OperationQueue& queue_;  // lives at least until the operation is done
  std::atomic<bool> done_{false};
  std::optional<Error> error_;  // written before done_
};

}  // namespace deepscale::shm
