#include <fmt/core.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <csignal>
#include <string>
#include <system_error>
#include <utility>

#include "agents/process/child_process.h"
#include "agents/process/descriptors_linux.h"
#include "agents/process/exec_image_linux.h"
#include "agents/process/process_status_linux.h"
#include "agents/process/supervisor_linux.h"
#include "agents/process/supervisors_linux.h"
#include "comm/base/error.h"

namespace deepscale {
namespace {

namespace asio = boost::asio;
using Descriptor = asio::posix::stream_descriptor;

constexpr auto kStartLimit = std::chrono::seconds(60);
constexpr timeval kStartPatience = {.tv_sec = 0, .tv_usec = 100'000};
constexpr auto kBlockingWait = std::chrono::seconds(2);
constexpr auto kKillLimit = std::chrono::seconds(5);
constexpr int kMaxRest = 16;  // pieces of 64 KiB: the largest pipe that a program without privileges can have

Error start_error(const std::string& program, const std::string& why) {
  return Error(ErrorCode::kSystem, fmt::format("cannot start '{}': {}", program, why));
}

int signal_number(StopSignal signal) {
  switch (signal) {
    case StopSignal::kInterrupt:
      return SIGINT;
    case StopSignal::kHangup:
      return SIGHUP;
    case StopSignal::kUser1:
      return SIGUSR1;
    case StopSignal::kUser2:
      return SIGUSR2;
    case StopSignal::kTerminate:
      break;
  }
  return SIGTERM;
}

}  // namespace

class ChildProcess::Implementation : public std::enable_shared_from_this<Implementation> {
 public:
  Implementation(asio::io_context& io, Options options, Callbacks callbacks)
      : io_(io),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        link_(io),
        pipes_{Pipe{Descriptor(io), OutputStream::kOut}, Pipe{Descriptor(io), OutputStream::kErr}},
        timer_(io) {}

  void begin();
  void wait_until_started();
  void abandon();
  std::int64_t pid() const { return pid_; }
  bool stop(StopSignal signal);
  bool handles(StopSignal signal) const;
  bool request_stacks();
  bool is_suspended() const;
  void kill();
  void pause_output() { is_paused_ = !is_forced_; }
  void resume_output();

 private:
  struct Pipe {
    Descriptor descriptor;
    OutputStream stream;
    bool is_waiting = false;
  };

  void watch();
  void send(SupervisorCommand command);
  int reap_supervisor();
  void wait_for_report();
  void take_reports();
  void child_ended(ExitStatus status);
  void supervisor_ended();
  void sweep_orphans(Deadline deadline);
  void end_tree();
  void give_up();
  void tree_gone();
  void wait_for_output(Pipe& pipe);
  void read_output(Pipe& pipe);
  void read_rest();
  template <typename Action>
  void after(Clock::duration wait, Action action);

  asio::io_context& io_;
  const Options options_;
  const Callbacks callbacks_;
  Descriptor link_;
  std::array<Pipe, 2> pipes_;
  asio::steady_timer timer_;
  std::array<char, 64 * 1024> buffer_;
  pid_t supervisor_ = -1;  // -1 once it was reaped
  std::int64_t pid_ = 0;
  Clock::time_point started_at_;
  bool is_paused_ = false;
  bool is_killing_ = false;   // its tree was told to end
  bool is_forced_ = false;    // by kill(), so that output flows regardless
  bool has_ended_ = false;    // the child
  bool is_gone_ = false;      // its tree
  bool is_finished_ = false;  // on_gone was called, or nobody listens any more
};

// Start.

void ChildProcess::Implementation::begin() try {
  const ExecImage image(options_);
  Supervisors& supervisors = Supervisors::of(io_);
  DescriptorPair link = link_pair();
  DescriptorPair output = output_pipe();
  DescriptorPair error = output_pipe();
  const UniqueDescriptor nothing =
      options_.standard_input == Stdin::kNull ? null_input() : UniqueDescriptor();
  ExecPlan plan = image.plan();
  plan.input = nothing.get() >= 0 ? nothing.get() : STDIN_FILENO;
  plan.output = output.theirs.get();
  plan.error = error.theirs.get();
  plan.descriptors = supervisors.descriptor_limit();
  plan.cgroup = supervisors.cgroup().folder();
  plan.cgroup_path = supervisors.cgroup().path().c_str();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // for the orphans of a supervisor that someone kills
  started_at_ = Clock::now();
  supervisor_ = fork_supervisor(plan, link.theirs.get());
  supervisors.add(supervisor_);
  link_.assign(link.ours.release());
  pipes_[0].descriptor.assign(output.ours.release());
  pipes_[1].descriptor.assign(error.ours.release());
} catch (const std::system_error& error) {
  throw start_error(options_.program, error.what());
}

void ChildProcess::Implementation::wait_until_started() {
  ::setsockopt(link_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &kStartPatience, sizeof kStartPatience);
  const auto deadline = Deadline::after(kStartLimit);
  SupervisorReport report = {};
  ssize_t size = 0;
  while ((size = ::recv(link_.native_handle(), &report, sizeof report, 0)) < 0 &&
         (errno == EAGAIN || errno == EINTR) && !deadline.has_passed()) {
    ::kill(supervisor_, SIGCONT);  // should someone have stopped it
  }
  if (size == sizeof report && report.kind == SupervisorReport::kStarted) {
    pid_ = report.pid;
    watch();
    return;
  }
  is_finished_ = true;
  const bool is_late = size < 0;
  if (is_late) ::kill(supervisor_, SIGKILL);
  reap_supervisor();
  if (size == sizeof report) throw spawn_error(options_, report);
  Supervisors::of(io_).end_orphans(Deadline::after(kBlockingWait));  // the child may run already
  throw start_error(options_.program,
                    is_late ? "the system did not execute it within 60 s" : "its supervisor was killed");
}

void ChildProcess::Implementation::watch() {
  wait_for_report();
  for (Pipe& pipe : pipes_) wait_for_output(pipe);
}

// Requests.

void ChildProcess::Implementation::send(SupervisorCommand command) {
  if (supervisor_ < 0) return;
  ::send(link_.native_handle(), &command, sizeof command, MSG_NOSIGNAL | MSG_DONTWAIT);
  ::kill(supervisor_, SIGCONT);  // should someone have stopped it
}

bool ChildProcess::Implementation::stop(StopSignal signal) {
  if (!has_ended_) send({SupervisorCommand::kSignalGroup, signal_number(signal)});
  return true;
}

// The child is read by its number: once it was reaped that may be another's. What is done with the answer
// goes through the supervisor, which knows.
bool ChildProcess::Implementation::handles(StopSignal signal) const {
  const auto status = has_ended_ ? std::nullopt : read_process_status(static_cast<pid_t>(pid_));
  return status && status->catches(signal_number(signal));
}

bool ChildProcess::Implementation::request_stacks() {
  const auto status = has_ended_ ? std::nullopt : read_process_status(static_cast<pid_t>(pid_));
  if (!status || !status->catches(SIGQUIT)) return false;
  send({SupervisorCommand::kSignalChild, SIGQUIT});
  return true;
}

bool ChildProcess::Implementation::is_suspended() const {
  const auto status = has_ended_ ? std::nullopt : read_process_status(static_cast<pid_t>(pid_));
  return status && (status->state == 'T' || status->state == 't');
}

void ChildProcess::Implementation::kill() {
  is_forced_ = true;
  resume_output();
  end_tree();
}

void ChildProcess::Implementation::end_tree() {
  if (is_killing_) return;
  is_killing_ = true;
  if (supervisor_ < 0) return;  // it has ended; if it was killed, its orphans are being swept
  send({SupervisorCommand::kKillTree, 0});
  after(kKillLimit, [this] { give_up(); });
}

void ChildProcess::Implementation::resume_output() {
  if (!is_paused_) return;
  is_paused_ = false;
  if (is_gone_) {
    asio::post(io_, [self = shared_from_this()] { self->read_rest(); });
  } else {
    for (Pipe& pipe : pipes_) wait_for_output(pipe);
  }
}

void ChildProcess::Implementation::abandon() {
  if (is_finished_) return;
  is_finished_ = true;
  if (supervisor_ > 0) {
    send({SupervisorCommand::kKillTree, 0});
    const auto deadline = Deadline::after(kBlockingWait);
    SupervisorReport report;
    ssize_t size = sizeof report;
    while (size > 0 && !deadline.has_passed()) {
      pollfd link = {link_.native_handle(), POLLIN, 0};
      const auto wait = std::chrono::ceil<std::chrono::milliseconds>(deadline.remaining());
      ::poll(&link, 1, static_cast<int>(wait.count()));
      size = ::recv(link_.native_handle(), &report, sizeof report, MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) size = sizeof report;
    }
    if (size <= 0 && WIFSIGNALED(reap_supervisor())) Supervisors::of(io_).end_orphans(deadline);
  }
  link_.close();
  for (Pipe& pipe : pipes_) pipe.descriptor.close();
  timer_.cancel();
}

// The end.

// Its wait status. Only after the link was closed from its side: then it is dead, or in the last lines of the
// kernel's exit, and this does not block.
int ChildProcess::Implementation::reap_supervisor() {
  int status = 0;
  while (::waitpid(supervisor_, &status, 0) < 0 && errno == EINTR) {
  }
  Supervisors::of(io_).remove(supervisor_);
  supervisor_ = -1;
  return status;
}

void ChildProcess::Implementation::wait_for_report() {
  link_.async_wait(Descriptor::wait_read,
                   [self = shared_from_this()](const boost::system::error_code& error) {
                     if (!error && !self->is_finished_) self->take_reports();
                   });
}

void ChildProcess::Implementation::take_reports() {
  SupervisorReport report = {};
  ssize_t size = 0;
  do {
    size = ::recv(link_.native_handle(), &report, sizeof report, MSG_DONTWAIT);
  } while (size < 0 && errno == ECONNRESET);  // it left a command of ours unread; its reports come next
  if (size == sizeof report && report.kind == SupervisorReport::kEnded) {
    const int wait_status = report.wait_status;
    const bool was_signalled = WIFSIGNALED(wait_status);
    child_ended({.how = was_signalled ? ExitStatus::How::kSignalled : ExitStatus::How::kExited,
                 .code = was_signalled ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status),
                 .core_dumped = was_signalled && WCOREDUMP(wait_status),
                 .stopped_by_us = report.was_asked_to_end != 0,
                 .peak_rss_bytes = static_cast<std::uint64_t>(report.peak_rss_kib) * 1024});
  } else if (size >= 0 || (errno != EAGAIN && errno != EINTR)) {
    supervisor_ended();
    return;
  }
  if (!is_finished_) wait_for_report();
}

void ChildProcess::Implementation::child_ended(ExitStatus status) {
  has_ended_ = true;
  status.duration = Clock::now() - started_at_;
  if (!is_killing_) after(options_.drain_time, [this] { end_tree(); });
  if (callbacks_.on_ended) callbacks_.on_ended(status);
}

void ChildProcess::Implementation::supervisor_ended() {
  link_.close();
  timer_.cancel();
  const pid_t pid = supervisor_;
  const int wait_status = reap_supervisor();
  if (has_ended_ && !WIFSIGNALED(wait_status)) {
    tree_gone();
    return;
  }
  if (!has_ended_) {
    child_ended({.how = ExitStatus::How::kLost,
                 .stopped_by_us = is_killing_,
                 .detail = fmt::format("its supervisor (process {}) was killed by {}", pid,
                                       signal_name(WTERMSIG(wait_status)))});
  }
  if (!is_finished_) sweep_orphans(Deadline::after(kKillLimit));
}

void ChildProcess::Implementation::sweep_orphans(Deadline deadline) {
  if (!Supervisors::of(io_).kill_orphans() || deadline.has_passed()) {
    tree_gone();
  } else {
    after(std::chrono::milliseconds(2), [this, deadline] { sweep_orphans(deadline); });
  }
}

void ChildProcess::Implementation::give_up() {
  link_.close();     // whatever becomes killable later is killed by the supervisor then
  supervisor_ = -1;  // not reaped: that could block for as long
  if (!has_ended_) {
    child_ended({.how = ExitStatus::How::kLost,
                 .stopped_by_us = true,
                 .detail = "the system did not kill it within 5 s"});
  }
  if (!is_finished_) tree_gone();
}

void ChildProcess::Implementation::tree_gone() {
  is_gone_ = true;
  timer_.cancel();
  read_rest();
}

// Output.

void ChildProcess::Implementation::wait_for_output(Pipe& pipe) {
  if (is_paused_ || pipe.is_waiting || !pipe.descriptor.is_open()) return;
  pipe.is_waiting = true;
  pipe.descriptor.async_wait(Descriptor::wait_read,
                             [self = shared_from_this(), &pipe](const boost::system::error_code& error) {
                               pipe.is_waiting = false;
                               if (error || self->is_finished_) return;
                               self->read_output(pipe);
                               if (!self->is_gone_) self->wait_for_output(pipe);
                             });
}

// One piece, if the pipe has one; closes it at its end.
void ChildProcess::Implementation::read_output(Pipe& pipe) {
  if (is_paused_) return;
  const ssize_t size = ::read(pipe.descriptor.native_handle(), buffer_.data(), buffer_.size());
  if (size > 0) {
    if (callbacks_.on_output) {
      callbacks_.on_output(pipe.stream, {buffer_.data(), static_cast<std::size_t>(size)});
    }
    return;
  }
  if (size < 0 && errno == EINTR) return;
  // Once the tree is gone, a pipe that is empty but open is held by a stranger who was handed it.
  if (size == 0 || errno != EAGAIN || is_gone_) pipe.descriptor.close();
}

void ChildProcess::Implementation::read_rest() {
  for (Pipe& pipe : pipes_) {
    for (int piece = 0; pipe.descriptor.is_open() && !is_finished_ && !is_paused_; ++piece) {
      piece < kMaxRest ? read_output(pipe) : pipe.descriptor.close();
    }
  }
  if (is_finished_ || pipes_[0].descriptor.is_open() || pipes_[1].descriptor.is_open()) return;
  is_finished_ = true;
  if (callbacks_.on_gone) callbacks_.on_gone();
}

template <typename Action>
void ChildProcess::Implementation::after(Clock::duration wait, Action action) {
  timer_.expires_after(wait);
  timer_.async_wait([self = shared_from_this(), action](const boost::system::error_code& error) {
    if (!error && !self->is_finished_) action();
  });
}

std::string job_cgroup(asio::io_context& io) {
  return Supervisors::of(io).cgroup().path();
}

// The face.

ChildProcess::ChildProcess(asio::io_context& io, Options options, Callbacks callbacks)
    : implementation_(std::make_shared<Implementation>(io, std::move(options), std::move(callbacks))) {
  implementation_->begin();
}

void ChildProcess::wait_until_started() {
  implementation_->wait_until_started();
}
ChildProcess::~ChildProcess() {
  implementation_->abandon();
}
std::int64_t ChildProcess::pid() const {
  return implementation_->pid();
}
bool ChildProcess::stop(StopSignal signal) {
  return implementation_->stop(signal);
}
bool ChildProcess::handles(StopSignal signal) const {
  return implementation_->handles(signal);
}
bool ChildProcess::request_stacks() {
  return implementation_->request_stacks();
}
bool ChildProcess::is_suspended() const {
  return implementation_->is_suspended();
}
void ChildProcess::kill() {
  implementation_->kill();
}
void ChildProcess::pause_output() {
  implementation_->pause_output();
}
void ChildProcess::resume_output() {
  implementation_->resume_output();
}

}  // namespace deepscale
