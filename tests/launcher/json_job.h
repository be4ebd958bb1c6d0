// A real `deepscale launch --json` as a direct child of the test, and what it has told so far. Linux only.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/agents/marked_process.h"
#include "tests/launcher/job_story.h"

namespace deepscale::testing {

class JsonJob : public JobStory {
 public:
  // `arguments`: of `deepscale launch --json`.
  explicit JsonJob(const std::vector<std::string>& arguments);
  ~JsonJob();
  JsonJob(const JsonJob&) = delete;
  JsonJob& operator=(const JsonJob&) = delete;

  MarkedProcess& launcher() { return *launcher_; }
  int living_processes() const { return mark_.living_processes(); }

  // Takes the events that are there; does not block.
  void read_events();
  // Takes events until the condition holds; false when that takes too long.
  bool wait_for(const std::function<bool()>& condition, Clock::duration limit = kSoon);
  // To the launcher's end: its wait status. Nothing when it does not end in time.
  std::optional<int> finish(Clock::duration limit = kSoon);

  // Which rank a supervisor holds, when that was started.
  std::optional<int> rank_below(pid_t supervisor) const;

 private:
  const JobMark mark_;
  int read_end_ = -1;
  std::optional<MarkedProcess> launcher_;
};

}  // namespace deepscale::testing
