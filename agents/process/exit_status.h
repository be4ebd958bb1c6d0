// How a child process ended; never a bare int.
//
// A value without behaviour beyond its texts; any thread may copy and read it. The numbers of signals are
// Linux's (x86 and ARM) on every platform, so that a report of a Linux node reads the same everywhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "comm/base/clock.h"

namespace deepscale {

struct ExitStatus {
  enum class How {
    kNotStarted,   // nobody tried: another rank could not be started, or the job was stopped before
    kSpawnFailed,  // the system refused to start it; `code`: 127 when there is no such program, else 126
    kExited,       // ended by itself; `code` is its exit code
    kSignalled,    // ended by a signal; `code` is the signal
    kCrashed,      // Windows: ended by an exception; `code` is the NTSTATUS
    kLost,         // its end could not be observed; `detail` says why
  };

  How how = How::kNotStarted;
  std::int64_t code = 0;
  bool core_dumped = false;
  bool stopped_by_us = false;        // stop() or kill() came before it began to end, however it ended then
  std::uint64_t peak_rss_bytes = 0;  // of the child itself; 0 when unknown
  Clock::duration duration{};        // from its start to its end
  std::string detail;                // a sentence, only with kSpawnFailed and kLost

  // Ended by itself with code 0.
  bool is_success() const { return how == How::kExited && code == 0; }

  // "exit code 3", "killed by signal 11 (SIGSEGV), core dumped", "crashed with 0xC0000005 (access
  // violation)", "not started: <detail>", "lost: <detail>"; with ", after we stopped it" when stopped_by_us.
  std::string text() const;

  // What a shell would report: the code, 128 + signal, 127 for a program that is not there, 126 for one that
  // may not be executed; a crash keeps its 32 bits; kLost and kNotStarted give 1.
  int shell_code() const;
};

std::string signal_name(std::int64_t signal);     // "SIGKILL"; "signal 70" for a number without a name
std::string ntstatus_name(std::uint32_t status);  // "access violation"; empty when it has no name here

}  // namespace deepscale
