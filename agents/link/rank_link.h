// A rank's link to the agent of its node (NodeAgent), which the agent names in DEEPSCALE_AGENT.
//
//   RankLink link = RankLink::from_environment(Environment::of_process());
//   for (...) {
//     train_one_step();
//     link.heartbeat(++steps);
//     if (link.stop_requested()) return save_and_leave();
//   }
//
// Without an agent it is a null link: every call does nothing and stop_requested() is false, so a program
// needs no other path for a run without `deepscale launch`. A process may have several links; they speak for
// the same rank.
//
// A process with a link also prints its stacks when its agent asks for them (stack_dump.h).
//
// Ownership: a RankLink owns its connection and one thread, which sends and receives in the background.
// Threads: any thread may call any method. Blocking: from_environment() until the agent has answered, at most
// 10 s; report_failure() until the agent has it, at most 2 s; the destructor until the thread has ended;
// nothing else. When the agent goes away, the link becomes a null link that remembers stop_requested().
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string_view>

#include "agents/link/link_message.h"
#include "comm/base/environment.h"

namespace deepscale {

class RankLink {
 public:
  RankLink();  // null
  ~RankLink();
  RankLink(RankLink&&) noexcept;
  RankLink& operator=(RankLink&&) noexcept;

  // A null link where `environment` names no agent. Error(kInvalidArgument) when DEEPSCALE_AGENT has another
  // form; Error(kAborted) when the agent refuses this process, for example as a rank of an earlier
  // generation; Error(kPeerLost) or Error(kTimeout) when there is nobody, or nobody who answers.
  static RankLink from_environment(const Environment& environment);

  bool is_connected() const;

  // The rank has done `steps` steps. With --heartbeat_timeout, a rank that has once said so and then does not
  // change the number for that long counts as hanging. Costs a few microseconds; of those that come faster
  // than they can be sent, the last is sent.
  void heartbeat(std::int64_t steps);
  // No step is to be expected until the next heartbeat: a long evaluation, an export.
  void rest();

  // The job is to end, and there is time to save and leave: `deepscale launch` was asked to stop. Whoever has
  // called this once is asked in this way alone; others get the signal at once. Not because another rank has
  // failed: then all are ended.
  bool stop_requested() const;

  // Why this rank cannot go on: the failure report names it. A heartbeat after it takes it back. True when
  // the agent has it.
  bool report_failure(RankFailure kind, std::string_view message);
  bool report_failure(const std::exception& error);

 private:
  class Connection;
  explicit RankLink(std::unique_ptr<Connection> connection);

  std::unique_ptr<Connection> connection_;
};

// By the code of an Error, else by the words of the message.
RankFailure rank_failure_of(const std::exception& error);

}  // namespace deepscale
