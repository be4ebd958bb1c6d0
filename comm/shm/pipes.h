// send and receive: a ring of slots from every rank to every other.
//
// A message is cut into pieces of a slot each, every one of them under the message's header; a message of
// nothing is one piece. A send is done when its last piece is in the ring, also when nobody receives it yet.
// The transfers of different peers, and both directions, go on independently of each other.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "comm/shm/host.h"
#include "comm/shm/operation_queue.h"
#include "comm/shm/waiter.h"

namespace deepscale::shm {

class Pipes final : public OperationQueue::Worker {
 public:
  using Finish = std::function<void(Operation&)>;
  Pipes(Host& host, Waiter& waiter, Finish finish);

  bool start(Operation& operation) override;
  void advance(const std::atomic<bool>& has_submissions) override;
  void forget_all() override;

 private:
  // One direction of one peer.
  struct Direction {
    int peer = 0;
    bool is_send = false;
    std::deque<Operation*> queue;
    std::size_t bytes_moved = 0;  // of the first one
    bool has_begun = false;       // for messages of nothing
  };

  Direction& direction_of(const Operation& operation);
  // Moves pieces while there are any; true when something moved.
  bool move(Direction& direction);
  bool move_piece(Direction& direction);
  bool can_move(const Direction& direction);
  std::optional<Error> why_hopeless();

  Host& host_;
  Waiter& waiter_;
  const Finish finish_;
  const std::size_t slot_bytes_;
  std::vector<Direction> directions_;  // receive and send of rank 0, of rank 1, ...
};

}  // namespace deepscale::shm
