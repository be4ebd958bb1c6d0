// The ranks of one node as one unit: they live and die together, and the first cause is reported, not the
// last symptom.
//
// The agent starts its ranks in order, passes their output on as whole lines, and ends when all of them are
// gone. A rank that ends with code 0 while others run is fine. The first one that ends in any other way,
// without having been asked to, is the cause: all others are asked to stop at once, share one deadline
// (`grace`), and are killed when it passes. A rank that dies takes its peers with it, and in which order we
// hear of ends that come together is chance: so of those that were ending before they were asked to, one that
// was killed or faulted is the cause rather than one that exited or aborted. The states of a rank are drawn
// in rank_state.h; where a failed start, a request_stop() or a kill_now() comes in, the same teardown runs.
//
// The agent listens for the links of its ranks (agents/link) and tells each by DEEPSCALE_AGENT where; a rank
// need not use it. Who is to end is told so over the link first. A rank that reported a failure over its link
// before it was asked to end has failed by itself, whenever its process ends; and one that says that it lost
// its peers is no cause where another is.
//
// With a heartbeat_timeout, ranks that have sent heartbeats and make no more steps (hang_watch.h) are a
// failure too: the one to blame is the first cause, every rank is asked for its stacks, and the teardown
// follows a second after these have come, at most 5 s after the request. Time in which the agent stood still
// too, with its machine, does not count.
//
// Asked to stop from outside, a rank that asks RankLink::stop_requested() is told over its link alone, unless
// it also handles the signal: so it has all of `grace` to save and leave.
//
// Ownership: the io_context and the listener must outlive the agent; the agent owns the processes, and its
// destructor kills what is left. Threads: all calls and all callbacks on the one thread that runs the
// io_context. Nothing blocks except start() (see ChildProcess).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agents/link/link_server.h"
#include "agents/node/hang_watch.h"
#include "agents/node/rank_state.h"
#include "agents/process/child_process.h"
#include "agents/process/exit_status.h"
#include "comm/base/clock.h"

namespace deepscale {

struct RankCommand {
  int rank = 0;        // in the whole job
  int local_rank = 0;  // on this node
  ChildProcess::Options process;
};

// One line, or a piece of one: a line longer than NodeAgentOptions::max_line_bytes comes in pieces, so does
// any line without NodeAgentOptions::whole_lines, and the last line of a stream may have no newline. Any
// bytes but '\n' may be in it.
struct OutputLine {
  int rank = 0;
  OutputStream stream = OutputStream::kOut;
  std::string_view text;  // without the newline; valid during the call only
  bool is_start = true;   // a line begins here
  bool is_end = true;     // the line ends here; false: the next piece of this rank and stream continues it
  bool lacks_newline = false;  // it ends with the stream
};

// A rank changed its state.
struct RankEvent {
  int rank = 0;
  int local_rank = 0;
  RankState state = RankState::kPlanned;
  std::int64_t pid = 0;                // 0 before kStarted
  const ExitStatus* status = nullptr;  // with the final states only; valid during the call only
};

struct RankResult {
  int rank = 0;
  int local_rank = 0;
  std::int64_t pid = 0;  // 0 when it was never started
  ExitStatus status;     // stopped_by_us tells a consequence from a cause
  std::chrono::system_clock::time_point started_at;
  std::chrono::system_clock::time_point ended_at;
  std::vector<std::string> last_error_lines;  // the end of its stderr, oldest first, each cut at 4 KiB
  std::optional<std::int64_t> steps;          // of its last heartbeat
  std::optional<ReportedFailure> reported;    // over its link, before it was asked to end
};

struct NodeResult {
  std::vector<RankResult> ranks;  // in the order of the commands
  std::optional<std::size_t>
      first_cause;  // index into ranks: who ended badly first; none when all went well or we were asked
  std::optional<StopSignal>
      stop_request;          // what request_stop() forwarded, when it was called before any failure
  bool was_killed = false;   // kill_now() was called
  std::optional<Hang> hang;  // then first_cause is the rank to blame
  Clock::duration duration{};

  // Every rank ended by itself with code 0.
  bool is_success() const;
};

// What the owner of an agent hears. on_finished comes exactly once and last, from within io_context::run(),
// and may destroy the agent; on_output comes from there too; on_event also from inside start(),
// request_stop() and kill_now().
class NodeListener {
 public:
  virtual ~NodeListener() = default;
  virtual void on_output(const OutputLine& line) = 0;
  virtual void on_event(const RankEvent& event) { (void)event; }
  // The job hangs. `without_stacks`: the ranks that have no way to print theirs.
  virtual void on_hang(const RankResult& to_blame, const Hang& hang, const std::vector<int>& without_stacks) {
    (void)to_blame, (void)hang, (void)without_stacks;
  }
  virtual void on_finished(const NodeResult& result) = 0;
};

struct NodeAgentOptions {
  Clock::duration grace = std::chrono::seconds(5);  // from the request to stop until the kill
  std::size_t max_line_bytes = 64 * 1024;
  bool whole_lines = true;  // false: what a rank has written of a line does not wait for the rest
  std::size_t kept_error_lines = 20;
  std::optional<Clock::duration> heartbeat_timeout;  // how long a rank may make no step
  int generation = 0;                                // what the ranks' DEEPSCALE_GENERATION says
  Logger logger;
};

class NodeAgent {
 public:
  // Error(kSystem) when it cannot listen for the ranks' links.
  NodeAgent(boost::asio::io_context& io, std::vector<RankCommand> commands, NodeListener& listener,
            NodeAgentOptions options = {});
  ~NodeAgent();

  NodeAgent(const NodeAgent&) = delete;
  NodeAgent& operator=(const NodeAgent&) = delete;

  // Starts all ranks, side by side; call it once. A program that cannot be started does not throw: its rank
  // ends with kSpawnFailed and is the first cause, and on_finished tells. Ranks whose turn had not come by
  // then are kNotStarted.
  void start();

  // Forwards a stop or preemption signal to every rank and begins the teardown; a later call forwards its
  // signal too but does not move the deadline. Before start(): no rank will be started.
  void request_stop(StopSignal signal);

  // Kills everything now (the second Ctrl-C).
  void kill_now();

  // Back-pressure: the sink of on_output is full, or takes output again. A kill lets output flow regardless,
  // so that a blocked sink cannot hold up the end; whoever cannot take it then drops it.
  void pause_output();
  void resume_output();

 private:
  class Implementation;
  std::shared_ptr<Implementation> implementation_;
};

}  // namespace deepscale
