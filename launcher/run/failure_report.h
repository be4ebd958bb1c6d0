// Why a job failed: one block that names the first cause, and the ranks that ended because of it.
//
// Pure: made from what the agent of the node reports and what is known about memory. As text for people, and
// as JSON (job_events.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agents/node/node_agent.h"

namespace deepscale {

enum class FailureClass {
  kExitCode,
  kPythonException,
  kSignal,
  kCrash,        // a fault of the program: segmentation fault, abort, ...
  kOutOfMemory,  // by the system's own account, or the program's last words
  kKilledFromOutside,
  kNotStarted,
  kLost,
};

const char* failure_class_name(
    FailureClass failure_class);  // "exit code", "out of memory", ...; the same in text and JSON

struct FailureReport {
  FailureClass failure_class = FailureClass::kExitCode;
  std::string explanation;  // a sentence or two for people
  std::string host;
  RankResult cause;
  int world_size = 0;
  int generation = 0;
  std::vector<int> also_failed;  // ended badly by themselves, after the cause
  std::vector<int> stopped;      // because of it
  std::vector<int> succeeded;    // before it
  std::vector<int> never_started;
  int exit_code = 1;
};

// What is known besides the result.
struct FailureContext {
  std::string host;
  int generation = 0;
  std::optional<std::int64_t>
      out_of_memory_kills;  // by the kernel while the job ran; unset: the system does not tell
};

// `result` must have a first cause.
FailureReport make_failure_report(const NodeResult& result, const FailureContext& context);

std::string failure_text(const FailureReport& report);

// How often the kernel killed a process for lack of memory: in the job's own cgroup (job_cgroup() of
// child_process.h) where memory is counted for it, else in ours or on the whole machine since it started;
// nothing where the platform does not count.
std::optional<std::int64_t> count_out_of_memory_kills(const std::string& job_cgroup);

// Whether the kernel's log says since then that it killed this process for lack of memory; nothing where we
// may not read it, or it knows processes by other numbers (in a container).
std::optional<bool> kernel_log_names(std::int64_t pid, Clock::time_point since);

// Lines of Windows programs end with "\r\n", and the '\r' is no part of the text.
std::string_view without_carriage_return(std::string_view line);

std::string duration_text(Clock::duration duration);  // "0.25 s", "12.3 s", "3 min 5 s"
std::string bytes_text(std::uint64_t bytes);          // "3.2 GB"

}  // namespace deepscale
