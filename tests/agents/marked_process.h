// A program that the test itself starts, and what the chaos tests share. Linux only.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/agents/child_run.h"

namespace deepscale::testing {

// A direct child of this process, with no supervisor: so its death tests its own care for what it started,
// and nobody else's. It is killed with the object, also when a test fails half-way: whoever remains would
// keep ctest waiting.
class MarkedProcess {
 public:
  // `words` begins with the program's path; `output` becomes its standard output.
  MarkedProcess(std::vector<std::string> words, const JobMark& mark, int output = 1);
  ~MarkedProcess();
  MarkedProcess(const MarkedProcess&) = delete;
  MarkedProcess& operator=(const MarkedProcess&) = delete;

  pid_t pid() const { return pid_; }
  void send(int signal) const;  // nothing once it was reaped
  // Its wait status; nothing when it does not end in time.
  std::optional<int> wait(Clock::duration limit = kSoon);

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
};

std::vector<pid_t> children_of(pid_t pid);

}  // namespace deepscale::testing
