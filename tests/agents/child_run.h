// Runs one ChildProcess to its end, or to a condition, with a deadline; and counts what is left of a job.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agents/process/child_process.h"

namespace deepscale::testing {

// The test child with these actions (tests/agents/child_program.cc), in our own environment.
ChildProcess::Options child_options(std::vector<std::string> actions);

// The limit for what must come: only a hang takes longer, on whatever machine. Less than ctest gives a test.
inline constexpr Clock::duration kSoon = std::chrono::seconds(50);

// Runs the loop until the condition holds; false when that takes longer than the deadline, or nothing is left
// to do.
bool run_until(boost::asio::io_context& io, const std::function<bool()>& condition,
               Clock::duration wait = kSoon);

// Does not run a loop: for what happens outside of it. Polls every millisecond.
bool wait_until(const std::function<bool()>& condition, Clock::duration wait = kSoon);

// Which seeds a chaos test runs: that of DEEPSCALE_CHAOS_SEED, else 1 to DEEPSCALE_CHAOS_RUNS.
std::vector<std::uint32_t> chaos_seeds(std::int64_t default_runs);

class ChildRun {
 public:
  explicit ChildRun(ChildProcess::Options options);

  // To its end, that is to on_gone; false when it does not come in time.
  bool finish(Clock::duration wait = kSoon);
  bool wait_for_output(const std::string& text);
  // The N of "pid N" in its output; -1 when none comes.
  std::int64_t told_pid();

  boost::asio::io_context io;
  std::string out;
  std::string error;
  std::optional<ExitStatus> status;
  int ended_calls = 0;
  int gone_calls = 0;
  std::unique_ptr<ChildProcess> process;
};

// Whether a process is there and no zombie.
bool is_alive(std::int64_t pid);

// Of a process that is there. Linux only.
std::int64_t parent_of(std::int64_t pid);

// It stays there and holds what it has, but does nothing any more, until it is killed.
void suspend_process(std::int64_t pid);

// A variable that every process of a job inherits. Counting looks for it in all living processes, zombies not
// included. Linux only.
class JobMark {
 public:
  JobMark();
  Environment environment() const;  // ours, with the mark
  int living_processes() const;

 private:
  std::string value_;
};

}  // namespace deepscale::testing
