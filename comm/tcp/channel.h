// The messages between this rank and one peer: a queue of transfers for each direction, worked off in order,
// both at the same time.
//
//   open --stop()--> stopping (what is under way is being cancelled) --drain()--> draining --> closed
//     \__________________________________________close()______________________________________/
//
// A channel always reads ahead one header, so it learns that the peer went away also while nothing is
// expected from it. That is no failure until a transfer needs the peer: ranks do not end at the same moment.
// Belongs to the communicator's thread, like everything it calls.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/tcp/connection.h"
#include "comm/tcp/operation.h"

namespace deepscale::tcp {

class Channel {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void transfer_finished(Operation& operation) = 0;
    // The peer is gone, and `operation` needs it.
    virtual void peer_lost(int peer, const Operation& operation, const std::string& why) = 0;
    // The peer's next message belongs to another operation than this rank's.
    virtual void ranks_disagree(int peer, const Operation& operation, const MessageHeader& theirs) = 0;
    // After stop(): a read or write has returned, is_quiet() may have become true.
    virtual void io_returned() = 0;
  };

  Channel(int peer, std::unique_ptr<Connection> connection, Owner& owner);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  int peer() const { return peer_; }
  // True while transfers of `operation` are queued.
  bool is_needed_by(const Operation& operation) const;

  // Both take the transfer into the queue; it stays its operation's and must live until it has finished or
  // the channel is quiet after stop().
  void send(Transfer& transfer);
  void receive(Transfer& transfer);
  // To be called when the `allowed` of a queued transfer has grown.
  void continue_sending();
  void continue_receiving();

  // Cancels what is under way; when is_quiet(), no buffer is touched any more.
  void stop();
  bool is_quiet() const { return !outgoing_.busy && !incoming_.busy; }
  // When quiet: forgets all transfers, tells the peer the reason (unless a message was cut in the middle),
  // ends the stream and reads until the peer ends it too, then closes and is_quiet() again. To close at once,
  // with unread bytes, would reset the connection, and the peer might lose the message that says what is
  // wrong.
  void drain(const std::string& reason);
  void close();

 private:
  enum class State { kOpen, kStopping, kDraining, kClosed };

  struct Direction {
    std::deque<Transfer*> queue;
    std::size_t header_bytes = 0;  // moved so far of the first transfer's header
    bool busy = false;             // a read or write is under way

    bool has_header() const { return header_bytes == sizeof(MessageHeader); }
    bool contains(const Operation& operation) const;
  };

  bool is_usable() const { return state_ == State::kOpen && !ended_; }
  void enqueue(Direction& direction, Transfer& transfer);
  void on_sent(const std::string& failure, std::size_t bytes);
  void on_received(const std::string& failure, std::size_t bytes);
  std::span<std::byte> room_for_next_bytes();
  void accept_payload(std::size_t bytes);
  void advance(Direction& direction, std::size_t payload_bytes);
  void on_connection_ended(const std::string& why);
  void forget_next_bytes();

  const int peer_;
  const std::unique_ptr<Connection> connection_;
  Owner& owner_;
  State state_ = State::kOpen;
  std::optional<std::string> ended_;  // why the connection is of no use any more
  Direction outgoing_;
  Direction incoming_;
  std::array<std::byte, sizeof(MessageHeader)> received_header_{};
  MessageHeader farewell_header_;
  std::string farewell_;  // why the peer gave up, as far as received; later why this rank does
  std::size_t farewell_bytes_ = 0;
  bool is_between_messages_ = false;
  std::vector<std::byte> forgotten_;
};

}  // namespace deepscale::tcp
