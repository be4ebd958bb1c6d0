#include "launcher/run/job_runner.h"

#include <fmt/core.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "agents/node/node_agent.h"
#include "comm/base/error.h"
#include "comm/store/store_server.h"
#include "launcher/job/plan_text.h"
#include "launcher/job/rank_environment.h"
#include "launcher/run/console.h"
#include "launcher/run/failure_report.h"
#include "launcher/run/job_events.h"
#include "launcher/run/job_identity.h"
#include "launcher/run/stop_signals.h"

namespace deepscale {
namespace {

namespace asio = boost::asio;

constexpr int kTimeoutExitCode = 124;
constexpr int kPreemptedExitCode = 75;  // EX_TEMPFAIL of sysexits.h: try again later
constexpr auto kLeastDrainTime = std::chrono::milliseconds(200);
constexpr auto kMostDrainTime = std::chrono::seconds(5);

// Restarts that fail in the same way this soon, this often in a row, make no progress.
constexpr auto kQuickFailure = std::chrono::seconds(10);
constexpr int kSameFailuresToGiveUp = 3;
// So do generations, this many in a row, that do not get beyond the step that an earlier one has reached.
constexpr int kFruitlessToGiveUp = 2;

// The numeric address behind --master_addr, which must be one of this machine's.
std::string listen_address(asio::io_context& io, const std::string& name) {
  if (name.empty() || name == "localhost") return "127.0.0.1";
  boost::system::error_code failure;
  asio::ip::tcp::resolver resolver(io);
  for (const auto& entry : resolver.resolve(name, "", failure)) {
    asio::ip::tcp::acceptor probe(io);
    boost::system::error_code refused;
    probe.open(entry.endpoint().protocol(), refused);
    if (!refused) probe.bind({entry.endpoint().address(), 0}, refused);
    if (!refused) return entry.endpoint().address().to_string();
  }
  throw Error(ErrorCode::kUnsupported, fmt::format("--master_addr {} is not an address of this machine, and "
                                                   "multi-node launch is not in this version; leave "
                                                   "it out to meet on loopback.",
                                                   name));
}

class JobRunner final : public NodeListener {
 public:
  explicit JobRunner(RunInputs inputs);
  int run();

 private:
  enum class State { kIdle, kRunning, kStopping, kRestarting, kDraining, kFinished };

  void start_generation();
  std::vector<RankCommand> make_commands() const;
  void wait_for_signal();
  void handle_signal(const JobSignal& signal);
  void handle_timeout();
  void begin_stopping();
  void handle_idle_console();
  void limit_draining();
  void give_up_draining_at(Clock::time_point time, Clock::time_point at_latest);

  void on_output(const OutputLine& line) override;
  void on_event(const RankEvent& event) override;
  void on_hang(const RankResult& to_blame, const Hang& hang, const std::vector<int>& without_stacks) override;
  void on_finished(const NodeResult& result) override;

  FailureReport report_failure(const NodeResult& result) const;
  // Whether to start over; when the budget is left but more of the same would be pointless, says so.
  bool may_restart(const FailureReport& report);
  bool fails_the_same(const FailureReport& report);
  bool makes_no_progress(const NodeResult& result);
  void restart(const FailureReport& report);
  void drain(std::string_view outcome, int exit_code);

  RunInputs inputs_;
  asio::io_context io_{1};
  asio::signal_set signals_{io_};
  asio::steady_timer timeout_{io_};
  asio::steady_timer drain_limit_{io_};
  std::vector<JobSignal> stop_signals_;
  Console console_;
  PidFile pid_file_;
  Rendezvous rendezvous_;
  std::optional<StoreServer> store_;
  std::unique_ptr<NodeAgent> agent_;

  State state_ = State::kIdle;
  std::optional<JobSignal> stop_signal_;  // the first that came
  bool timed_out_ = false;
  Clock::time_point stop_deadline_;
  bool is_killing_ = false;
  bool is_paused_ = false;
  bool flush_is_due_ = false;
  std::string last_words_;  // written when everything before it has been
  Clock::time_point started_at_ = Clock::now();
  const OutOfMemoryWatch out_of_memory_{job_cgroup(io_)};
  std::optional<RankResult> last_failure_;
  int same_quick_failures_ = 0;
  std::optional<std::int64_t> most_steps_;  // that any rank has told of in an earlier generation
  int fruitless_generations_ = 0;
  int exit_code_ = 1;
};

JobRunner::JobRunner(RunInputs inputs)
    : inputs_(std::move(inputs)),
      stop_signals_(stop_signals()),
      console_(inputs_.spec, inputs_.plan.world_size,
               [this] { asio::post(io_, [this] { handle_idle_console(); }); }),
      pid_file_(inputs_.spec.save_pid) {
  rendezvous_.job_id = new_job_id();
  rendezvous_.address = inputs_.spec.master_address.empty() ? "127.0.0.1" : inputs_.spec.master_address;
  for (const JobSignal& signal : stop_signals_) signals_.add(signal.number);
}

int JobRunner::run() {
  for (const std::string& note : inputs_.notes) console_.note(note);
  start_generation();
  wait_for_signal();
  if (inputs_.spec.timeout) {
    timeout_.expires_after(*inputs_.spec.timeout);
    timeout_.async_wait([this](const boost::system::error_code& cancelled) {
      if (!cancelled) handle_timeout();
    });
  }
  io_.run();
  console_.flush_logs();
  return exit_code_ == 0 && console_.has_lost_output() ? 1 : exit_code_;
}

void JobRunner::start_generation() {
  is_paused_ = false;
  // A store of its own for each generation: no rank of an earlier one has a place in it.
  store_.reset();
  store_.emplace(io_, StoreServerOptions{.address = listen_address(io_, inputs_.spec.master_address),
                                         .port = inputs_.spec.master_port,
                                         .logger = inputs_.logger});
  rendezvous_.port = store_->port();
  console_.event(job_started_event(inputs_.plan, rendezvous_));
  state_ = State::kRunning;
  NodeAgentOptions options;
  options.grace = inputs_.spec.grace;
  options.whole_lines = console_.wants_whole_lines();
  options.heartbeat_timeout = inputs_.spec.heartbeat_timeout;
  options.generation = rendezvous_.generation;
  options.logger = inputs_.logger;
  agent_ = std::make_unique<NodeAgent>(io_, make_commands(), *this, options);
  agent_->start();
  // They came between two generations.
  if (timed_out_) handle_timeout();
  if (stop_signal_ && state_ == State::kRunning) handle_signal(*stop_signal_);
}

std::vector<RankCommand> JobRunner::make_commands() const {
  std::vector<RankCommand> commands;
  const JobPlan& plan = inputs_.plan;
  for (int local_rank = 0; local_rank < plan.nodes.front().placement.rank_count(); ++local_rank) {
    const RankPlace place{0, local_rank};
    ChildProcess::Options process;
    process.program = plan.program.executable;
    process.arguments = rank_arguments(plan, place);
    process.environment = rank_environment(inputs_.environment, plan, place, rendezvous_);
    process.cpus = rank_processors(plan, place);
    commands.push_back({plan.rank_at(place), local_rank, std::move(process)});
  }
  return commands;
}

void JobRunner::wait_for_signal() {
  signals_.async_wait([this](const boost::system::error_code& cancelled, int number) {
    if (cancelled) return;
    for (const JobSignal& signal : stop_signals_) {
      if (signal.number == number) handle_signal(signal);
    }
    wait_for_signal();
  });
}

void JobRunner::handle_signal(const JobSignal& signal) {
  const bool is_first = !stop_signal_;
  if (is_first) stop_signal_ = signal;
  switch (state_) {
    case State::kRunning:
      begin_stopping();
      console_.note(fmt::format("{}: stopping the ranks, at most {}; once more kills them now", signal.name,
                                duration_text(inputs_.spec.grace)));
      agent_->request_stop(signal.forward);
      break;
    case State::kStopping:
      is_killing_ = true;
      agent_->kill_now();
      break;
    case State::kDraining:
      is_killing_ = true;
      limit_draining();
      break;
    case State::kIdle:
    case State::kRestarting:
    case State::kFinished:
      break;
  }
}

void JobRunner::begin_stopping() {
  state_ = State::kStopping;
  stop_deadline_ = Clock::now() + inputs_.spec.grace;
}

void JobRunner::handle_timeout() {
  if (state_ == State::kStopping) return;
  timed_out_ = true;
  if (state_ == State::kDraining) limit_draining();
  if (state_ != State::kRunning) return;
  begin_stopping();
  console_.note(
      fmt::format("--timeout: {} are over; stopping the ranks", duration_text(*inputs_.spec.timeout)));
  agent_->request_stop(StopSignal::kTerminate);
}

void JobRunner::on_output(const OutputLine& line) {
  // After a kill output comes whether we can take it or not; what does not fit is dropped, so that the end
  // comes.
  if (is_killing_ && console_.is_full()) return;
  console_.output(line);
  if (console_.is_full() && !is_paused_) {
    is_paused_ = true;
    agent_->pause_output();
  }
  if (!flush_is_due_) {
    flush_is_due_ = true;
    asio::post(io_, [this] {
      flush_is_due_ = false;
      console_.flush_logs();
    });
  }
}

void JobRunner::on_event(const RankEvent& event) {
  if (!console_.is_json()) return;
  if (event.state == RankState::kStarted) console_.event(rank_started_event(event, rendezvous_.generation));
  if (event.state == RankState::kJoined) console_.event(rank_joined_event(event, rendezvous_.generation));
  if (is_final(event.state)) console_.event(rank_exited_event(event, rendezvous_.generation));
}

void JobRunner::on_hang(const RankResult& to_blame, const Hang& hang,
                        const std::vector<int>& without_stacks) {
  console_.event(hang_event(to_blame, hang, rendezvous_.generation));
  console_.note(fmt::format("rank {} hangs: it {}; the stacks follow", to_blame.rank, hang.text()));
  if (without_stacks.empty()) return;
  console_.note(fmt::format("no stack of {} {}: {} no handler for it (docs/launcher.md, Hangs)",
                            without_stacks.size() == 1 ? "rank" : "ranks", ranges_text(without_stacks),
                            without_stacks.size() == 1 ? "it has" : "they have"));
}

void JobRunner::on_finished(const NodeResult& result) {
  const bool was_asked = stop_signal_ && !result.was_killed && result.is_success();
  if (result.first_cause) {
    const FailureReport report = report_failure(result);
    console_.event(failure_event(report));
    if (may_restart(report) && !makes_no_progress(result)) return restart(report);
    last_words_ = failure_text(report);
    drain("failed", report.exit_code);
  } else if (timed_out_) {
    last_words_ = fmt::format("deepscale: the job was ended by --timeout after {}\n",
                              duration_text(*inputs_.spec.timeout));
    drain("timeout", kTimeoutExitCode);
  } else if (was_asked && stop_signal_->is_preemption) {
    last_words_ =
        fmt::format("deepscale: the job was stopped by {}, and every rank left with 0\n", stop_signal_->name);
    drain("preempted", kPreemptedExitCode);
  } else if (stop_signal_) {
    last_words_ = fmt::format("deepscale: the job was stopped by {}\n", stop_signal_->name);
    drain("stopped", 128 + stop_signal_->number);
  } else {
    drain(result.is_success() ? "succeeded" : "failed", result.is_success() ? 0 : 1);
  }
}

FailureReport JobRunner::report_failure(const NodeResult& result) const {
  const std::int64_t pid = result.ranks[*result.first_cause].pid;
  return make_failure_report(result,
                             {inputs_.host_name, rendezvous_.generation, out_of_memory_.evidence(pid)});
}

bool JobRunner::may_restart(const FailureReport& report) {
  if (stop_signal_ || timed_out_ || rendezvous_.generation >= inputs_.plan.max_restarts) return false;
  if (report.failure_class == FailureClass::kNotStarted) return false;
  return !fails_the_same(report);
}

bool JobRunner::fails_the_same(const FailureReport& report) {
  const bool was_quick = report.cause.status.duration < kQuickFailure;
  const bool is_same = last_failure_ && last_failure_->rank == report.cause.rank &&
                       last_failure_->status.how == report.cause.status.how &&
                       last_failure_->status.code == report.cause.status.code;
  same_quick_failures_ = !was_quick ? 0 : is_same ? same_quick_failures_ + 1 : 1;
  last_failure_ = report.cause;
  if (same_quick_failures_ < kSameFailuresToGiveUp) return false;
  console_.note(
      fmt::format("no further restart: {} times in a row rank {} ended in the same way right after its start",
                  same_quick_failures_, report.cause.rank));
  return true;
}

// Of jobs whose ranks send heartbeats.
bool JobRunner::makes_no_progress(const NodeResult& result) {
  std::optional<std::int64_t> reached;
  for (const RankResult& rank : result.ranks) reached = std::max(reached, rank.steps);
  if (rendezvous_.generation == 0 || reached > most_steps_) {
    fruitless_generations_ = 0;
  } else if (most_steps_) {
    ++fruitless_generations_;
  }
  most_steps_ = std::max(most_steps_, reached);
  if (fruitless_generations_ < kFruitlessToGiveUp) return false;
  console_.note(fmt::format("no further restart: the last {} did not get beyond step {}",
                            fruitless_generations_, *most_steps_));
  return true;
}

void JobRunner::restart(const FailureReport& report) {
  state_ = State::kRestarting;
  ++rendezvous_.generation;
  console_.report(failure_text(report));
  console_.note(fmt::format("restart {} of {}", rendezvous_.generation, inputs_.plan.max_restarts));
  // Not from here: we are inside a call of the agent that this replaces.
  asio::post(io_, [this] { start_generation(); });
}

void JobRunner::drain(std::string_view outcome, int exit_code) {
  exit_code_ = exit_code;
  state_ = State::kDraining;
  limit_draining();
  console_.event(job_finished_event(exit_code, outcome, Clock::now() - started_at_));
  handle_idle_console();
}

// Whoever reads our output may take all the time it needs, unless we were asked to end. Then whoever goes on
// reading has some more.
void JobRunner::limit_draining() {
  if (!stop_signal_ && !timed_out_) return;
  const auto at_least = Clock::now() + kLeastDrainTime;
  const auto end = is_killing_ ? at_least : std::max(stop_deadline_, at_least);
  give_up_draining_at(end, end + kMostDrainTime);
}

void JobRunner::give_up_draining_at(Clock::time_point time, Clock::time_point at_latest) {
  drain_limit_.expires_at(time);
  const std::uint64_t written_before = console_.written_bytes();
  drain_limit_.async_wait([this, written_before, at_latest](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    const auto now = Clock::now();
    if (console_.written_bytes() == written_before || now >= at_latest) {
      if (timed_out_ && exit_code_ == 0) exit_code_ = kTimeoutExitCode;
      return io_.stop();
    }
    give_up_draining_at(now + kLeastDrainTime, at_latest);
  });
}

void JobRunner::handle_idle_console() {
  console_.report_losses();
  if (is_paused_ && !console_.is_full()) {
    is_paused_ = false;
    agent_->resume_output();
  }
  if (state_ != State::kDraining) return;
  if (!console_.is_idle()) return console_.call_when_idle();
  if (!last_words_.empty()) {
    console_.report(std::exchange(last_words_, {}));
    return console_.call_when_idle();
  }
  state_ = State::kFinished;
  io_.stop();
}

}  // namespace

int run_job(RunInputs inputs) {
  return JobRunner(std::move(inputs)).run();
}

}  // namespace deepscale
