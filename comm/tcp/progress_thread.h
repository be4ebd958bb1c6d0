// The thread that moves the bytes of one communicator, and the life of its operations.
//
//   running --break_with()--> stopping (I/O under way returns) -> draining (peers are told) -> closed
//      \______________________ destructor, nothing in flight _____________________________/
//
// Operations start in the order in which they are submitted and end when their transfers have; the transfers
// of different peers do not wait for each other. The first failure - a lost peer, ranks that disagree, a
// deadline, abort() - breaks it: everything in flight and everything later fails with that cause, and the
// connections end, so that the peers fail as well.
//
// submit() and the destructor belong to one thread; abort() may come from any. The destructor breaks what is
// in flight and returns after kDrainTime at the latest.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/base/clock.h"
#include "comm/base/error.h"
#include "comm/communicator.h"
#include "comm/tcp/channel.h"
#include "comm/tcp/operation.h"

namespace deepscale::tcp {

class ProgressThread final : public Channel::Owner {
 public:
  // Makes an operation's transfers and queues them on channels; runs on the progress thread.
  using Start = std::function<void(Operation&)>;

  // Connects the ranks and starts; blocks and throws as connect_mesh() does.
  ProgressThread(int rank, int world_size, Store* store, const CommunicatorOptions& options);
  ~ProgressThread() override;
  ProgressThread(const ProgressThread&) = delete;
  ProgressThread& operator=(const ProgressThread&) = delete;

  Work submit(const MessageHeader& header, Start start);
  void abort(const std::string& reason);

  // For Start only.
  Channel& channel(int peer) { return *channels_[peer]; }

 private:
  enum class State { kRunning, kStopping, kDraining, kClosed };
  struct Loop;

  void run();
  void begin(std::unique_ptr<Operation> operation, const Start& start);
  void finish_part(Operation& operation);
  void watch_deadline();
  void on_deadline();

  void transfer_finished(Operation& operation) override { finish_part(operation); }
  void peer_lost(int peer, const Operation& operation, const std::string& why) override;
  void ranks_disagree(int peer, const Operation& operation, const MessageHeader& theirs) override;
  void io_returned() override;

  void break_with(ErrorCode code, const std::string& why);
  void fail_all();
  void drain();
  void close();
  void end();
  template <typename Action>
  void for_each_channel(Action action) {
    for (const auto& channel : channels_) {
      if (channel != nullptr) action(*channel);
    }
  }

  const int rank_;
  const int size_;
  const Clock::duration timeout_;
  const std::unique_ptr<Loop> loop_;
  std::vector<std::unique_ptr<Channel>> channels_;    // by rank; the own one is null
  std::deque<std::unique_ptr<Operation>> in_flight_;  // in order of their start
  bool deadline_is_watched_ = false;
  State state_ = State::kRunning;
  std::optional<Error> cause_;  // why it broke
  bool ending_ = false;         // the destructor waits
  std::thread thread_;
};

}  // namespace deepscale::tcp
