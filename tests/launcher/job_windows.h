// A real `deepscale launch --json` as a direct child of the test, and what it has told so far. Windows only.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/agents/scoped_process_windows.h"
#include "tests/launcher/job_story.h"

namespace deepscale::testing {

class WindowsJob : public JobStory {
 public:
  // `arguments`: of `deepscale launch --json`.
  explicit WindowsJob(const std::vector<std::string>& arguments);

  ScopedProcess& launcher() { return launcher_; }
  // Sets the launcher's stop event; false when it has none within the limit.
  bool ask_to_stop(Clock::duration limit = kSoon);
  // Takes events until the condition holds; false when that takes too long.
  bool wait_for(const std::function<bool()>& condition, Clock::duration limit = kSoon);
  // To the launcher's end: its exit code. Nothing when it does not end in time.
  std::optional<unsigned> finish(Clock::duration limit = kSoon);
  bool has_told(const std::string& text) const { return transcript().find(text) != std::string::npos; }

 private:
  void read_events();

  ScopedProcess launcher_;
};

}  // namespace deepscale::testing
