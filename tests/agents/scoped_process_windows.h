// A program that the test itself starts, with all that it starts in turn, in a scope that kills nobody: so
// its death tests its own care for what it started, and nobody else's. Windows only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/agents/child_run.h"

namespace deepscale::testing {

class ScopedProcess {
 public:
  // Its standard error is ours. std::runtime_error when it cannot be started.
  ScopedProcess(const std::string& program, const std::vector<std::string>& arguments);
  // Ends whoever remains, also when a test fails half-way.
  ~ScopedProcess();
  ScopedProcess(const ScopedProcess&) = delete;
  ScopedProcess& operator=(const ScopedProcess&) = delete;

  std::uint32_t pid() const { return pid_; }
  // As Task Manager ends a process: it is not asked and cannot clean up.
  void terminate();
  // Its exit code; nothing when it does not end in time.
  std::optional<unsigned> wait(Clock::duration limit = kSoon);
  // Of the whole scope, itself included.
  int living_processes() const;
  // What is there of its standard output; does not block.
  std::string read_output();

 private:
  void* scope_ = nullptr;
  void* process_ = nullptr;
  void* output_ = nullptr;
  std::uint32_t pid_ = 0;
};

// Any process, with this exit code; nothing when it has gone.
void terminate_process(std::int64_t pid, unsigned exit_code);

}  // namespace deepscale::testing
