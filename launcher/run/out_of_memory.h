// Whether the kernel killed a process of the job for lack of memory. One implementation per platform.
//
// Three sources: the counter of the job's own cgroup (job_cgroup() of child_process.h) where memory is
// counted for it, else of ours (memory.events, or memory.oom_control of version 1), else that of the whole
// machine (/proc/vmstat); the kernel log, where we may read it, which names the process; and how much memory
// the process held. Windows kills nobody for lack of memory: an allocation beyond the commit limit fails, and
// the program says so itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace deepscale {

struct MemoryEvidence {
  std::optional<std::int64_t> kills;         // since the watch began; unset: the system does not tell
  bool counts_whole_machine = false;         // `kills` may be of others
  std::optional<bool> log_names_it;          // the kernel log tells of its kill; unset: the log tells nothing
  std::optional<std::uint64_t> total_bytes;  // memory of the machine
};

class OutOfMemoryWatch {
 public:
  explicit OutOfMemoryWatch(std::string job_cgroup);  // empty: the job has none

  // What is known about the process, since this object was made.
  MemoryEvidence evidence(std::int64_t pid) const;

 private:
  struct Counter {
    std::optional<std::int64_t> kills;
    bool counts_whole_machine = false;
  };
  Counter read_counter() const;

  std::string job_cgroup_;
  Counter at_start_;
  std::chrono::microseconds started_at_;  // on the clock of the kernel log
};

// Whether a record of the kernel log (/dev/kmsg: "6,1234,98765432,-;text") tells since `since` that the
// kernel killed this process for lack of memory; nothing where it tells of no such kill at all.
std::optional<bool> names_killed_process(std::string_view record, std::int64_t pid,
                                         std::chrono::microseconds since);

}  // namespace deepscale
