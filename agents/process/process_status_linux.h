// What the kernel tells about a process of ours, from /proc. Only *_linux.cc files include this.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace deepscale {

struct ProcessStatus {
  char state = '?';                  // R, S, D, T (stopped), t (traced), Z ...
  std::uint64_t caught_signals = 0;  // bit N-1 for signal N

  bool catches(int signal) const { return (caught_signals >> (signal - 1) & 1) != 0; }
};

// Nothing when there is no such process.
std::optional<ProcessStatus> read_process_status(pid_t pid);

}  // namespace deepscale
