#include "agents/node/node_agent.h"

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <utility>

#include "agents/node/line_splitter.h"
#include "comm/base/error.h"

namespace deepscale {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kMaxErrorLineBytes = 4096;
constexpr auto kLate = std::chrono::milliseconds(100);
constexpr auto kStackTime = std::chrono::seconds(1);      // after the last line of the stacks
constexpr auto kMostStackTime = std::chrono::seconds(5);  // after the request for them

// The last lines of a stream.
class LastLines {
 public:
  explicit LastLines(std::size_t count) : count_(count) {}

  void add(const LineSplitter::Piece& piece) {
    if (piece.is_start) lines_.emplace_back();
    if (lines_.size() > count_) lines_.pop_front();
    if (lines_.empty()) return;
    std::string& line = lines_.back();
    line += piece.text.substr(0, kMaxErrorLineBytes - std::min(line.size(), kMaxErrorLineBytes));
  }
  std::vector<std::string> take() {
    return {std::make_move_iterator(lines_.begin()), std::make_move_iterator(lines_.end())};
  }

 private:
  std::size_t count_;
  std::deque<std::string> lines_;
};

// How likely the end of a rank is the consequence of another's. A rank that loses its peers ends with an
// error, or aborts; nobody is killed for it, and nobody's memory fault comes from it. What it says itself
// counts more.
enum class Suspicion { kIsConsequence, kMayBeConsequence, kIsCause };

Suspicion suspicion_of(const RankResult& rank) {
  constexpr std::int64_t kAbort = 6;
  constexpr std::int64_t kBrokenPipe = 13;
  const ExitStatus& end = rank.status;
  const bool may_be_consequence =
      end.how == ExitStatus::How::kExited || end.stopped_by_us ||
      (end.how == ExitStatus::How::kSignalled && (end.code == kAbort || end.code == kBrokenPipe));
  if (!may_be_consequence) return Suspicion::kIsCause;
  if (!rank.reported) return Suspicion::kMayBeConsequence;
  const RankFailure kind = rank.reported->kind;
  if (kind == RankFailure::kPeerLost) return Suspicion::kIsConsequence;
  return kind == RankFailure::kCollectiveTimeout ? Suspicion::kMayBeConsequence : Suspicion::kIsCause;
}

bool is_cause_rather_than(const RankResult& rank, const RankResult& other) {
  return suspicion_of(rank) > suspicion_of(other);
}

}  // namespace

class NodeAgent::Implementation : public std::enable_shared_from_this<Implementation> {
 public:
  Implementation(asio::io_context& io, std::vector<RankCommand> commands, NodeListener& listener,
                 NodeAgentOptions options);

  void start();
  void request_stop(StopSignal signal);
  void kill_now();
  void pause_output();
  void resume_output();
  void abandon();

 private:
  struct Rank {
    Rank(RankCommand rank_command, std::size_t rank_index, const NodeAgentOptions& options)
        : command(std::move(rank_command)),
          index(rank_index),
          splitters{LineSplitter(options.max_line_bytes), LineSplitter(options.max_line_bytes)},
          last_error_lines(options.kept_error_lines) {
      result.rank = command.rank;
      result.local_rank = command.local_rank;
    }
    // Something of it may be there.
    bool is_here() const { return process != nullptr; }
    bool is_running() const {
      return is_here() && life.state() != RankState::kSpawning && !is_final(life.state());
    }

    RankCommand command;
    std::size_t index;
    bool was_told_to_leave = false;  // over its link, by a request and not for a failure
    bool leaves_by_itself = false;   // then no signal is sent besides
    bool owes_stacks = false;        // it was asked to print them, and has printed nothing since
    RankStateMachine life;
    std::unique_ptr<ChildProcess> process;
    std::array<LineSplitter, 2> splitters;  // by OutputStream
    LastLines last_error_lines;
    RankResult result;
  };

  void begin_spawn(Rank& rank);
  void finish_spawn(Rank& rank);
  void spawn_failed(Rank& rank, const Error& error);
  void take_output(Rank& rank, OutputStream stream, std::string_view bytes);
  LineSplitter::Sink line_sink(Rank& rank, OutputStream stream);
  void rank_ended(Rank& rank, const ExitStatus& status);
  void rank_gone(Rank& rank);
  void note_failure(const Rank& rank);
  void hear_of(std::size_t index);
  void keep_report(Rank& rank);
  std::vector<RankProgress> progress() const;
  void watch_progress();
  void look_at(Clock::time_point when, Clock::duration excused = kLate);
  void job_hangs(const Hang& hang);
  void await_stacks();
  void begin_teardown(StopSignal signal);
  void ask_to_stop(Rank& rank, StopSignal signal);
  void kill(Rank& rank);
  void kill_all();
  void move(Rank& rank, RankState next);
  void finish_when_all_are_gone();

  asio::io_context& io_;
  NodeListener& listener_;
  const NodeAgentOptions options_;
  std::deque<Rank> ranks_;           // a deque keeps addresses: the callbacks of the processes hold them
  std::optional<LinkServer> links_;  // until the end: it keeps the io_context busy
  asio::steady_timer deadline_;
  asio::steady_timer hang_timer_;
  bool is_watching_ = false;  // hang_timer_ is set
  Clock::time_point stacks_end_;
  NodeResult result_;
  Clock::time_point started_at_;
  bool is_started_ = false;
  bool is_stopping_ = false;
  bool is_finished_ = false;  // on_finished was posted, or nobody listens any more
  bool is_abandoned_ = false;
};

NodeAgent::Implementation::Implementation(asio::io_context& io, std::vector<RankCommand> commands,
                                          NodeListener& listener, NodeAgentOptions options)
    : io_(io), listener_(listener), options_(std::move(options)), deadline_(io), hang_timer_(io) {
  links_.emplace(io, LinkServerOptions{.rank_count = commands.size(),
                                       .generation = options_.generation,
                                       .logger = options_.logger,
                                       .on_news = [this](std::size_t index) { hear_of(index); }});
  for (RankCommand& command : commands) {
    const std::size_t index = ranks_.size();
    ranks_.emplace_back(std::move(command), index, options_);
    ranks_.back().command.process.environment.set("DEEPSCALE_AGENT", links_->address_of(index));
  }
}

// Start.

void NodeAgent::Implementation::start() {
  started_at_ = Clock::now();
  // In two rounds, so that the system starts the ranks side by side.
  for (Rank& rank : ranks_) begin_spawn(rank);
  for (Rank& rank : ranks_) finish_spawn(rank);
  is_started_ = true;
  finish_when_all_are_gone();
}

void NodeAgent::Implementation::begin_spawn(Rank& rank) {
  if (is_stopping_) return move(rank, RankState::kExited);
  move(rank, RankState::kSpawning);
  try {
    rank.process = std::make_unique<ChildProcess>(
        io_, std::move(rank.command.process),
        ChildProcess::Callbacks{
            .on_output = [this, &rank](OutputStream stream,
                                       std::string_view bytes) { take_output(rank, stream, bytes); },
            .on_ended = [this, &rank](const ExitStatus& status) { rank_ended(rank, status); },
            .on_gone = [this, &rank] { rank_gone(rank); }});
  } catch (const Error& error) {
    spawn_failed(rank, error);
  }
}

void NodeAgent::Implementation::finish_spawn(Rank& rank) {
  if (!rank.is_here()) return;
  try {
    rank.process->wait_until_started();
  } catch (const Error& error) {
    rank.process.reset();
    spawn_failed(rank, error);
    return;
  }
  rank.result.pid = rank.process->pid();
  rank.result.started_at = std::chrono::system_clock::now();
  move(rank, RankState::kStarted);
  if (is_stopping_) ask_to_stop(rank, StopSignal::kTerminate);
}

void NodeAgent::Implementation::spawn_failed(Rank& rank, const Error& error) {
  rank.result.status = {.how = ExitStatus::How::kSpawnFailed,
                        .code = error.code() == ErrorCode::kNotFound ? 127 : 126,
                        .detail = error.what()};
  move(rank, RankState::kSpawnFailed);
  note_failure(rank);
  begin_teardown(StopSignal::kTerminate);
}

// Output.

void NodeAgent::Implementation::take_output(Rank& rank, OutputStream stream, std::string_view bytes) {
  LineSplitter& splitter = rank.splitters[static_cast<std::size_t>(stream)];
  splitter.feed(bytes, line_sink(rank, stream));
  if (!options_.whole_lines) splitter.flush(line_sink(rank, stream));
  if (stream == OutputStream::kOut || !result_.hang || is_stopping_) return;
  rank.owes_stacks = false;
  await_stacks();
}

LineSplitter::Sink NodeAgent::Implementation::line_sink(Rank& rank, OutputStream stream) {
  return [this, &rank, stream](const LineSplitter::Piece& piece) {
    if (stream == OutputStream::kErr) rank.last_error_lines.add(piece);
    listener_.on_output(
        {rank.command.rank, stream, piece.text, piece.is_start, piece.is_end, piece.lacks_newline});
  };
}

void NodeAgent::Implementation::pause_output() {
  for (Rank& rank : ranks_) {
    if (rank.is_here()) rank.process->pause_output();
  }
}

void NodeAgent::Implementation::resume_output() {
  for (Rank& rank : ranks_) {
    if (rank.is_here()) rank.process->resume_output();
  }
}

// What ranks tell over their links.

void NodeAgent::Implementation::hear_of(std::size_t index) {
  if (is_finished_) return;
  Rank& rank = ranks_[index];
  const LinkStatus& link = links_->status(index);
  if (!rank.is_running()) return;
  if (may_follow(rank.life.state(), RankState::kJoined)) move(rank, RankState::kJoined);
  if (link.steps && may_follow(rank.life.state(), RankState::kRunning)) move(rank, RankState::kRunning);
  watch_progress();
}

// Before it is asked to end: what it reports later may be a consequence.
void NodeAgent::Implementation::keep_report(Rank& rank) {
  const LinkStatus& link = links_->status(rank.index);
  rank.result.steps = link.steps;
  rank.result.reported = link.failure;
}

// Hangs.

std::vector<RankProgress> NodeAgent::Implementation::progress() const {
  std::vector<RankProgress> ranks;
  for (const Rank& rank : ranks_) {
    const LinkStatus& link = links_->status(rank.index);
    const bool is_watched = rank.is_running() && link.steps && !link.is_resting && link.connections > 0;
    ranks.push_back({.is_watched = is_watched,
                     .steps = link.steps.value_or(0),
                     .progress_at = link.progress_at,
                     .heard_at = link.heard_at});
  }
  return ranks;
}

void NodeAgent::Implementation::watch_progress() {
  if (!options_.heartbeat_timeout || is_watching_ || is_stopping_ || is_finished_) return;
  if (const auto next = next_look(progress(), *options_.heartbeat_timeout)) look_at(*next);
}

void NodeAgent::Implementation::look_at(Clock::time_point when, Clock::duration excused) {
  is_watching_ = true;
  hang_timer_.expires_at(when);
  hang_timer_.async_wait([self = shared_from_this(), when, excused](const boost::system::error_code& error) {
    if (error || self->is_stopping_ || self->is_finished_) return;
    const auto now = Clock::now();
    // We stood still, and the ranks may have too: they get that time again, but not where all is always late.
    if (const auto late = now - when; late > excused) return self->look_at(now + late, late);
    self->is_watching_ = false;
    std::vector<RankProgress> ranks = self->progress();
    if (!find_hang(ranks, now, *self->options_.heartbeat_timeout)) return self->watch_progress();
    for (Rank& rank : self->ranks_) {
      ranks[rank.index].is_suspended = ranks[rank.index].is_watched && rank.process->is_suspended();
    }
    self->job_hangs(*find_hang(ranks, now, *self->options_.heartbeat_timeout));
  });
}

void NodeAgent::Implementation::job_hangs(const Hang& hang) {
  result_.hang = hang;
  result_.first_cause = hang.index;
  std::vector<int> without_stacks;
  for (Rank& rank : ranks_) {
    if (!rank.is_running()) continue;
    rank.owes_stacks = rank.process->request_stacks() || links_->ask_for_stacks(rank.index);
    if (!rank.owes_stacks) without_stacks.push_back(rank.command.rank);
  }
  listener_.on_hang(ranks_[hang.index].result, hang, without_stacks);
  is_watching_ = true;
  stacks_end_ = Clock::now() + kMostStackTime;
  await_stacks();
}

void NodeAgent::Implementation::await_stacks() {
  const bool are_due = std::any_of(ranks_.begin(), ranks_.end(),
                                   [](const Rank& rank) { return rank.is_running() && rank.owes_stacks; });
  hang_timer_.expires_at(are_due ? stacks_end_ : std::min(stacks_end_, Clock::now() + kStackTime));
  hang_timer_.async_wait([self = shared_from_this()](const boost::system::error_code& cancelled) {
    if (!cancelled && !self->is_finished_) self->begin_teardown(StopSignal::kTerminate);
  });
}

// The end of one rank.

void NodeAgent::Implementation::rank_ended(Rank& rank, const ExitStatus& how) {
  rank.result.status = how;
  // It may be quicker than the signal that is sent besides.
  const bool exits_as_told = rank.was_told_to_leave && how.how == ExitStatus::How::kExited;
  if (rank.leaves_by_itself || exits_as_told) rank.result.status.stopped_by_us = true;
  const ExitStatus& status = rank.result.status;
  rank.result.ended_at = std::chrono::system_clock::now();
  if (!is_stopping_) keep_report(rank);
  move(rank, status.how == ExitStatus::How::kLost ? RankState::kLost : RankState::kExited);
  if (status.is_success() || (status.stopped_by_us && !rank.result.reported)) return;
  note_failure(rank);
  begin_teardown(StopSignal::kTerminate);
}

void NodeAgent::Implementation::rank_gone(Rank& rank) {
  for (const OutputStream stream : {OutputStream::kOut, OutputStream::kErr}) {
    rank.splitters[static_cast<std::size_t>(stream)].finish(line_sink(rank, stream));
  }
  rank.result.last_error_lines = rank.last_error_lines.take();
  rank.process.reset();
  finish_when_all_are_gone();
}

// What is noted here had happened before our request to stop arrived. In which order we hear of ends that
// come together is the scheduler's choice.
void NodeAgent::Implementation::note_failure(const Rank& rank) {
  if (result_.hang) return;
  if (result_.first_cause && !is_cause_rather_than(rank.result, ranks_[*result_.first_cause].result)) {
    return;
  }
  result_.first_cause = rank.index;
}

// The end of all.

void NodeAgent::Implementation::request_stop(StopSignal signal) {
  if (is_finished_) return;
  if (!is_stopping_) {
    result_.stop_request = signal;
    begin_teardown(signal);
    return;
  }
  for (Rank& rank : ranks_) {
    if (rank.is_running() && !rank.leaves_by_itself) rank.process->stop(signal);
  }
}

void NodeAgent::Implementation::begin_teardown(StopSignal signal) {
  if (is_stopping_) return;
  is_stopping_ = true;
  hang_timer_.cancel();
  for (Rank& rank : ranks_) {
    if (rank.is_running()) keep_report(rank);
  }
  deadline_.expires_after(options_.grace);
  deadline_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && !self->is_finished_) self->kill_all();
  });
  for (Rank& rank : ranks_) {
    if (rank.is_running()) ask_to_stop(rank, signal);
  }
}

void NodeAgent::Implementation::ask_to_stop(Rank& rank, StopSignal signal) {
  const bool is_failure = result_.first_cause.has_value();
  const LinkStop reason = is_failure ? LinkStop::kFailure : LinkStop::kRequested;
  rank.was_told_to_leave = links_->request_stop(rank.index, reason) && !is_failure;
  // A signal that it does not handle would end it before it has saved.
  rank.leaves_by_itself =
      rank.was_told_to_leave && links_->status(rank.index).watches_stop && !rank.process->handles(signal);
  // Where no signal can be sent (Windows without a console), what it was told has to do until the deadline.
  const bool was_asked = rank.leaves_by_itself || rank.process->stop(signal) || rank.was_told_to_leave;
  if (was_asked) {
    move(rank, RankState::kStopping);
  } else {
    kill(rank);
  }
}

void NodeAgent::Implementation::kill_now() {
  if (is_finished_) return;
  result_.was_killed = true;
  is_stopping_ = true;
  kill_all();
}

void NodeAgent::Implementation::kill_all() {
  for (Rank& rank : ranks_) {
    if (rank.is_here()) kill(rank);
  }
}

void NodeAgent::Implementation::kill(Rank& rank) {
  rank.process->kill();
  if (may_follow(rank.life.state(), RankState::kKilling)) move(rank, RankState::kKilling);
}

void NodeAgent::Implementation::move(Rank& rank, RankState next) {
  rank.life.move_to(next);
  listener_.on_event({rank.command.rank, rank.command.local_rank, next, rank.result.pid,
                      is_final(next) ? &rank.result.status : nullptr});
}

void NodeAgent::Implementation::finish_when_all_are_gone() {
  const bool is_any_here =
      std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.is_here(); });
  if (!is_started_ || is_finished_ || is_any_here) return;
  is_finished_ = true;
  deadline_.cancel();
  hang_timer_.cancel();
  links_.reset();
  asio::post(io_, [self = shared_from_this()] {
    if (self->is_abandoned_) return;
    for (Rank& rank : self->ranks_) self->result_.ranks.push_back(std::move(rank.result));
    self->result_.duration = Clock::now() - self->started_at_;
    self->listener_.on_finished(self->result_);
  });
}

void NodeAgent::Implementation::abandon() {
  is_abandoned_ = true;
  is_finished_ = true;
  deadline_.cancel();
  hang_timer_.cancel();
  links_.reset();
  for (Rank& rank : ranks_) {
    if (rank.is_here()) rank.process->kill();  // all at once, before the waiting begins
  }
  for (Rank& rank : ranks_) rank.process.reset();
}

// The face.

bool NodeResult::is_success() const {
  return std::all_of(ranks.begin(), ranks.end(),
                     [](const RankResult& rank) { return rank.status.is_success(); });
}

NodeAgent::NodeAgent(asio::io_context& io, std::vector<RankCommand> commands, NodeListener& listener,
                     NodeAgentOptions options)
    : implementation_(
          std::make_shared<Implementation>(io, std::move(commands), listener, std::move(options))) {}

NodeAgent::~NodeAgent() {
  implementation_->abandon();
}
void NodeAgent::start() {
  implementation_->start();
}
void NodeAgent::request_stop(StopSignal signal) {
  implementation_->request_stop(signal);
}
void NodeAgent::kill_now() {
  implementation_->kill_now();
}
void NodeAgent::pause_output() {
  implementation_->pause_output();
}
void NodeAgent::resume_output() {
  implementation_->resume_output();
}

}  // namespace deepscale
