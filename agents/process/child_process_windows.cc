#include <windows.h>

#include <fmt/core.h>
#include <psapi.h>

#include <boost/winapi/handle_info.hpp>  // Boost.Process 1.81 uses it and forgets to include it

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/windows/object_handle.hpp>
#include <boost/asio/windows/stream_handle.hpp>
#include <boost/process/child.hpp>
#include <boost/process/exe.hpp>
#include <boost/process/extend.hpp>
#include <boost/process/io.hpp>
#include <boost/process/start_dir.hpp>
#include <string>
#include <utility>

#include "agents/process/child_process.h"
#include "agents/process/exec_image_windows.h"
#include "agents/process/start_attributes_windows.h"
#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"

namespace deepscale {
namespace {

namespace asio = boost::asio;
namespace bp = boost::process;

constexpr auto kDestructorWait = std::chrono::seconds(2);
constexpr auto kKillLimit = std::chrono::seconds(5);
constexpr auto kLookInterval = std::chrono::milliseconds(2);
constexpr auto kRestTime =
    std::chrono::milliseconds(500);  // for a stranger who holds a pipe of a tree that is gone
constexpr UINT kKilledCode = 137;    // what a shell on Linux says of a killed process

// The kill scope: ends all of its processes when its last handle is closed, so also when we end, however.
class Job {
 public:
  Job() : handle_(CreateJobObjectW(nullptr, nullptr)) {
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    if (handle_ == nullptr ||
        !SetInformationJobObject(handle_, JobObjectExtendedLimitInformation, &limits, sizeof limits)) {
      const DWORD error = GetLastError();
      CloseHandle(handle_);
      throw Error(ErrorCode::kSystem,
                  fmt::format("cannot make a job object for a child: {}", windows_error_text(error)));
    }
  }
  ~Job() { CloseHandle(handle_); }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  HANDLE handle() const { return handle_; }
  void kill() const { TerminateJobObject(handle_, kKilledCode); }
  bool is_empty() const {
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION information = {};
    QueryInformationJobObject(handle_, JobObjectBasicAccountingInformation, &information, sizeof information,
                              nullptr);
    return information.ActiveProcesses == 0;
  }

 private:
  const HANDLE handle_;
};

// One end of a pipe, closed with the object.
class PipeEnd {
 public:
  explicit PipeEnd(HANDLE handle) : handle_(handle) {}
  ~PipeEnd() { CloseHandle(handle_); }
  PipeEnd(const PipeEnd&) = delete;
  PipeEnd& operator=(const PipeEnd&) = delete;
  HANDLE get() const { return handle_; }

 private:
  const HANDLE handle_;
};

// Opens our end of a new pipe, asynchronous, and returns the child's. That one is synchronous, as programs
// expect of a standard handle (Boost's async_pipe makes both ends asynchronous).
HANDLE open_output_pipe(asio::windows::stream_handle& source) {
  LARGE_INTEGER ticks;
  QueryPerformanceCounter(&ticks);
  const std::wstring name = to_wide(fmt::format("\\\\.\\pipe\\deepscale-{}-{}-{}", GetCurrentProcessId(),
                                                static_cast<const void*>(&source), ticks.QuadPart));
  const HANDLE ours = CreateNamedPipeW(
      name.c_str(), PIPE_ACCESS_INBOUND | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
      PIPE_TYPE_BYTE | PIPE_REJECT_REMOTE_CLIENTS, 1, 0, 64 * 1024, 0, nullptr);
  if (ours != INVALID_HANDLE_VALUE) {
    source.assign(ours);
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, nullptr, TRUE};
    const HANDLE theirs = CreateFileW(name.c_str(), GENERIC_WRITE, 0, &inherited, OPEN_EXISTING, 0, nullptr);
    if (theirs != INVALID_HANDLE_VALUE) return theirs;
  }
  throw Error(ErrorCode::kSystem,
              fmt::format("cannot open a pipe for a child's output: {}", windows_error_text(GetLastError())));
}

// Starts the child in the job, suspended until it has its cores.
struct SuspendedStart : bp::extend::handler {
  const ExecImage& image;
  const Job& job;
  const HANDLE output;
  const HANDLE error;
  StartAttributes& attributes;

  SuspendedStart(const ExecImage& its_image, const Job& its_job, std::array<HANDLE, 2> outputs,
                 StartAttributes& its_attributes)
      : image(its_image), job(its_job), output(outputs[0]), error(outputs[1]), attributes(its_attributes) {}

  template <class Executor>
  void on_setup(Executor& executor) const {
    executor.cmd_line = image.command_line();
    executor.env = image.environment_block();
    // A group of its own keeps the terminal's Ctrl-C from it: whether and how it is stopped is up to us.
    executor.creation_flags |= CREATE_SUSPENDED | CREATE_UNICODE_ENVIRONMENT | CREATE_NEW_PROCESS_GROUP;
    executor.startup_info.dwFlags |= STARTF_USESTDHANDLES;
    executor.startup_info.hStdOutput = output;
    executor.startup_info.hStdError = error;
    executor.inherit_handles = true;
    if (image.inherits_input()) executor.startup_info.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    executor.set_startup_info_ex();
    attributes.set({executor.startup_info.hStdInput, output, error}, job.handle());
    executor.startup_info_ex.lpAttributeList =
        static_cast<decltype(executor.startup_info_ex.lpAttributeList)>(attributes.list());
  }
  template <class Executor>
  void on_success(Executor& executor) const {
    const HANDLE process = executor.proc_info.hProcess;
    if (image.cpu_mask() == 0 || SetProcessAffinityMask(process, image.cpu_mask())) {
      ResumeThread(executor.proc_info.hThread);
      return;
    }
    const std::error_code error(static_cast<int>(GetLastError()), std::system_category());
    TerminateProcess(process, kKilledCode);
    executor.set_error(error, "SetProcessAffinityMask");
  }
};

ExitStatus status_of(HANDLE process) {
  DWORD code = 0;
  GetExitCodeProcess(process, &code);
  PROCESS_MEMORY_COUNTERS memory = {};
  K32GetProcessMemoryInfo(process, &memory, sizeof memory);
  const bool is_crash = code >= 0xC0000000U || code == 0x80000003U;
  return {.how = is_crash ? ExitStatus::How::kCrashed : ExitStatus::How::kExited,
          .code = static_cast<std::int64_t>(code),
          .peak_rss_bytes = memory.PeakWorkingSetSize};
}

}  // namespace

class ChildProcess::Implementation : public std::enable_shared_from_this<Implementation> {
 public:
  Implementation(asio::io_context& io, Options options, Callbacks callbacks)
      : io_(io),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        pipes_{Pipe(io, OutputStream::kOut), Pipe(io, OutputStream::kErr)},
        end_(io),
        timer_(io) {}

  void spawn();
  void watch();
  void abandon();
  std::int64_t pid() const { return pid_; }
  bool stop();
  void kill();
  void pause_output() { is_paused_ = !is_forced_; }
  void resume_output();

 private:
  struct Pipe {
    Pipe(asio::io_context& io, OutputStream which) : source(io), stream(which) {}
    asio::windows::stream_handle source;
    OutputStream stream;
    bool is_reading = false;
    std::size_t held = 0;  // bytes in the buffer that came while output was paused
    std::array<char, 64 * 1024> buffer;
  };

  void end_tree();
  void child_ended();
  void look_for_tree(Deadline drained);
  void tree_gone();
  void read(Pipe& pipe);
  void deliver(Pipe& pipe);
  void finish_when_read();
  template <typename Action>
  void after(Clock::duration wait, Action action);

  asio::io_context& io_;
  const Options options_;
  const Callbacks callbacks_;
  std::array<Pipe, 2> pipes_;
  asio::windows::object_handle end_;
  asio::steady_timer timer_;
  Job job_;
  HANDLE process_ = nullptr;  // end_ owns it
  std::int64_t pid_ = 0;
  Clock::time_point started_at_;
  bool was_asked_to_end_ = false;
  bool is_paused_ = false;
  bool is_killing_ = false;   // its tree was told to end
  bool is_forced_ = false;    // by kill(), so that output flows regardless
  bool has_ended_ = false;    // the child
  bool is_gone_ = false;      // its tree
  bool is_finished_ = false;  // on_gone was called, or nobody listens any more
};

// Start.

void ChildProcess::Implementation::spawn() {
  const ExecImage image(options_);
  const PipeEnd output(open_output_pipe(pipes_[0].source));
  const PipeEnd error_output(open_output_pipe(pipes_[1].source));
  StartAttributes attributes;
  const auto start = [&](auto&& input) {
    return bp::child(bp::exe = image.path(), bp::start_dir = image.working_directory(), input,
                     SuspendedStart(image, job_, {output.get(), error_output.get()}, attributes));
  };
  try {
    started_at_ = Clock::now();
    bp::child child = image.inherits_input() ? start(bp::extend::handler()) : start(bp::std_in < bp::null);
    pid_ = child.id();
    DuplicateHandle(GetCurrentProcess(), child.native_handle(), GetCurrentProcess(), &process_, 0, FALSE,
                    DUPLICATE_SAME_ACCESS);
    child.detach();
    end_.assign(process_);
  } catch (const bp::process_error& error) {
    throw spawn_error(options_, static_cast<unsigned long>(error.code().value()));
  }
}

void ChildProcess::Implementation::watch() {
  end_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && !self->is_finished_) self->child_ended();
  });
  for (Pipe& pipe : pipes_) read(pipe);
}

// Requests.

bool ChildProcess::Implementation::stop() {
  if (has_ended_) return true;
  was_asked_to_end_ = true;
  return GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, static_cast<DWORD>(pid_)) != 0;
}

void ChildProcess::Implementation::kill() {
  is_forced_ = true;
  if (!has_ended_) was_asked_to_end_ = true;
  resume_output();
  end_tree();
}

void ChildProcess::Implementation::end_tree() {
  if (is_killing_) return;
  is_killing_ = true;
  if (!is_gone_) job_.kill();
}

void ChildProcess::Implementation::resume_output() {
  if (!is_paused_) return;
  is_paused_ = false;
  for (Pipe& pipe : pipes_) {
    if (pipe.held > 0) {
      asio::post(io_, [self = shared_from_this(), &pipe] { self->deliver(pipe); });
    } else {
      read(pipe);
    }
  }
  if (is_gone_) tree_gone();
}

void ChildProcess::Implementation::abandon() {
  if (is_finished_) return;
  is_finished_ = true;
  job_.kill();
  const auto deadline = Deadline::after(kDestructorWait);
  WaitForSingleObject(process_, 2000);
  while (!job_.is_empty() && !deadline.has_passed()) Sleep(1);  // a job object offers nothing to wait for
  boost::system::error_code ignored;
  for (Pipe& pipe : pipes_) pipe.source.close(ignored);
  end_.close(ignored);
  timer_.cancel();
}

// The end.

void ChildProcess::Implementation::child_ended() {
  has_ended_ = true;
  ExitStatus status = status_of(process_);
  status.stopped_by_us = was_asked_to_end_;
  status.duration = Clock::now() - started_at_;
  if (callbacks_.on_ended) callbacks_.on_ended(status);
  if (!is_finished_) look_for_tree(Deadline::after(options_.drain_time));
}

// A job object tells only by a completion port when it is empty; looking is simpler, and the tree is mostly
// gone already.
void ChildProcess::Implementation::look_for_tree(Deadline drained) {
  if (job_.is_empty()) return tree_gone();
  if (drained.has_passed()) {
    if (is_killing_) return tree_gone();  // the system did not kill it in time
    end_tree();
    drained = Deadline::after(kKillLimit);
  }
  after(kLookInterval, [this, drained] { look_for_tree(drained); });
}

void ChildProcess::Implementation::tree_gone() {
  is_gone_ = true;
  after(kRestTime, [this] {
    if (is_paused_) return;
    boost::system::error_code ignored;
    for (Pipe& pipe : pipes_) pipe.source.close(ignored);
    finish_when_read();
  });
  asio::post(io_, [self = shared_from_this()] { self->finish_when_read(); });
}

// Output.

void ChildProcess::Implementation::read(Pipe& pipe) {
  if (is_finished_ || is_paused_ || pipe.is_reading || pipe.held > 0 || !pipe.source.is_open()) return;
  pipe.is_reading = true;
  pipe.source.async_read_some(
      asio::buffer(pipe.buffer),
      [self = shared_from_this(), &pipe](const boost::system::error_code& error, std::size_t size) {
        pipe.is_reading = false;
        if (self->is_finished_) return;
        pipe.held = size;
        boost::system::error_code ignored;
        if (error) pipe.source.close(ignored);
        self->deliver(pipe);
      });
}

void ChildProcess::Implementation::deliver(Pipe& pipe) {
  if (is_finished_ || is_paused_) return;
  const std::size_t size = std::exchange(pipe.held, 0);
  if (size > 0 && callbacks_.on_output) callbacks_.on_output(pipe.stream, {pipe.buffer.data(), size});
  read(pipe);
  finish_when_read();
}

void ChildProcess::Implementation::finish_when_read() {
  if (!is_gone_ || is_finished_) return;
  for (const Pipe& pipe : pipes_) {
    if (pipe.held > 0 || pipe.source.is_open()) return;
  }
  is_finished_ = true;
  timer_.cancel();
  if (callbacks_.on_gone) callbacks_.on_gone();
}

template <typename Action>
void ChildProcess::Implementation::after(Clock::duration wait, Action action) {
  timer_.expires_after(wait);
  timer_.async_wait([self = shared_from_this(), action](const boost::system::error_code& error) {
    if (!error && !self->is_finished_) action();
  });
}

std::string job_cgroup(asio::io_context&) {
  return "";
}

// The face.

ChildProcess::ChildProcess(asio::io_context& io, Options options, Callbacks callbacks)
    : implementation_(std::make_shared<Implementation>(io, std::move(options), std::move(callbacks))) {
  implementation_->spawn();
}

void ChildProcess::wait_until_started() {
  implementation_->watch();
}
ChildProcess::~ChildProcess() {
  implementation_->abandon();
}
std::int64_t ChildProcess::pid() const {
  return implementation_->pid();
}
bool ChildProcess::stop(StopSignal) {
  return implementation_->stop();
}
bool ChildProcess::handles(StopSignal) const {
  return false;
}
bool ChildProcess::request_stacks() {
  return false;
}
bool ChildProcess::is_suspended() const {
  return false;
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
