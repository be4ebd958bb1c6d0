#include "agents/process/exit_status.h"

#include <fmt/core.h>

#include <iterator>

namespace deepscale {
namespace {

constexpr const char* kSignalNames[] = {
    "",          "SIGHUP",  "SIGINT",    "SIGQUIT", "SIGILL",   "SIGTRAP", "SIGABRT", "SIGBUS",
    "SIGFPE",    "SIGKILL", "SIGUSR1",   "SIGSEGV", "SIGUSR2",  "SIGPIPE", "SIGALRM", "SIGTERM",
    "SIGSTKFLT", "SIGCHLD", "SIGCONT",   "SIGSTOP", "SIGTSTP",  "SIGTTIN", "SIGTTOU", "SIGURG",
    "SIGXCPU",   "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO",   "SIGPWR",  "SIGSYS"};

struct NtStatus {
  std::uint32_t value;
  const char* name;
};

constexpr NtStatus kNtStatusNames[] = {
    {0x80000003, "breakpoint"},
    {0xC0000005, "access violation"},
    {0xC0000006, "in-page error"},
    {0xC0000017, "no memory"},
    {0xC000001D, "illegal instruction"},
    {0xC0000022, "access denied"},
    {0xC000008E, "floating-point division by zero"},
    {0xC0000094, "integer division by zero"},
    {0xC0000096, "privileged instruction"},
    {0xC00000FD, "stack overflow"},
    {0xC000012D, "commit limit reached"},
    {0xC0000135, "a DLL was not found"},
    {0xC0000139, "an entry point was not found in a DLL"},
    {0xC000013A, "Ctrl-C"},
    {0xC0000142, "a DLL failed to initialize"},
    {0xC0000374, "heap corruption"},
    {0xC0000409, "stack buffer overrun or fast fail"},
    {0xC0000602, "fail-fast exception"},
    {0xE06D7363, "C++ exception"},
};

std::string end_text(const ExitStatus& status) {
  switch (status.how) {
    case ExitStatus::How::kNotStarted:
      return "not started";
    case ExitStatus::How::kSpawnFailed:
      return "could not be started: " + status.detail;
    case ExitStatus::How::kExited:
      return fmt::format("exit code {}", status.code);
    case ExitStatus::How::kSignalled:
      return fmt::format("killed by signal {} ({}){}", status.code, signal_name(status.code),
                         status.core_dumped ? ", core dumped" : "");
    case ExitStatus::How::kCrashed: {
      const auto value = static_cast<std::uint32_t>(status.code);
      const std::string name = ntstatus_name(value);
      return fmt::format("crashed with 0x{:08X}{}", value, name.empty() ? "" : " (" + name + ")");
    }
    case ExitStatus::How::kLost:
      return "lost: " + status.detail;
  }
  return "unknown";
}

}  // namespace

std::string ExitStatus::text() const {
  return end_text(*this) + (stopped_by_us ? ", after we stopped it" : "");
}

int ExitStatus::shell_code() const {
  switch (how) {
    case How::kExited:
    case How::kCrashed:
    case How::kSpawnFailed:
      return static_cast<int>(code);
    case How::kSignalled:
      return 128 + static_cast<int>(code);
    case How::kNotStarted:
    case How::kLost:
      break;
  }
  return 1;
}

std::string signal_name(std::int64_t signal) {
  if (signal >= 1 && signal < std::ssize(kSignalNames)) return kSignalNames[signal];
  return fmt::format("signal {}", signal);
}

std::string ntstatus_name(std::uint32_t status) {
  for (const auto& [value, name] : kNtStatusNames) {
    if (value == status) return name;
  }
  return {};
}

}  // namespace deepscale
