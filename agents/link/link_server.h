// The agent's side of the links to its ranks: listens on loopback, lets in who has a rank's token and the
// right generation, and keeps what each rank has told.
//
// Whoever else connects is told why it is refused and cut off; so is a peer that says nothing for 5 s, or
// something that is no message. Several connections may speak for one rank. Memory is bounded: one unfinished
// message for each connection, one failure for each rank, a limit on connections that have not said hello.
//
// Ownership: the io_context must outlive the server. Threads: all calls and all callbacks on the one thread
// that runs the io_context; callbacks come from within io_context::run(). Nothing blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agents/link/link_message.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"

namespace boost::asio {
class io_context;
}

namespace deepscale {

struct ReportedFailure {
  RankFailure kind = RankFailure::kException;
  std::string message;
};

// What a rank has told so far.
struct LinkStatus {
  bool has_joined = false;
  int connections = 0;  // open now
  bool watches_stop = false;
  std::optional<std::int64_t> steps;       // of its last heartbeat; nothing before the first
  bool is_resting = false;                 // expects no step
  std::optional<ReportedFailure> failure;  // since its last heartbeat
  Clock::time_point progress_at;           // when `steps` last changed
  Clock::time_point heard_at;              // when anything came
};

struct LinkServerOptions {
  std::size_t rank_count = 0;
  int generation = 0;
  Logger logger;
  // Called with the index of a rank that has joined, has sent its first heartbeat, or has reported a failure.
  std::function<void(std::size_t)> on_news;
};

class LinkServer {
 public:
  // Listens from here on. Error(kSystem) when the system has no port on loopback.
  LinkServer(boost::asio::io_context& io, LinkServerOptions options);
  ~LinkServer();
  LinkServer(const LinkServer&) = delete;
  LinkServer& operator=(const LinkServer&) = delete;

  // What DEEPSCALE_AGENT is to say for a rank, by its index.
  std::string address_of(std::size_t index) const;
  const LinkStatus& status(std::size_t index) const;

  // Also reaches a connection that the rank makes later. True when one is open now.
  bool request_stop(std::size_t index, LinkStop reason);
  // True when a connection of the rank is open.
  bool ask_for_stacks(std::size_t index);

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace deepscale
