// A real `deepscale launch --json` as a direct child of the test, and what it has told so far. Windows only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/agents/scoped_process_windows.h"

namespace deepscale::testing {

class WindowsJob {
 public:
  using Json = nlohmann::json;

  // `arguments`: of `deepscale launch --json`.
  explicit WindowsJob(const std::vector<std::string>& arguments);

  ScopedProcess& launcher() { return launcher_; }
  // Sets the launcher's stop event; false when it has none within the limit.
  bool ask_to_stop(Clock::duration limit);
  // Takes events until the condition holds; false when that takes too long.
  bool wait_for(const std::function<bool()>& condition, Clock::duration limit);
  // To the launcher's end: its exit code. Nothing when it does not end in time.
  std::optional<unsigned> finish(Clock::duration limit);

  // In the latest generation that was told of; -1 before the first.
  int generation() const { return generation_; }
  int ranks_started() const { return static_cast<int>(pids_.size()); }
  int ranks_ready() const { return static_cast<int>(ready_.size()); }  // have printed "ready"
  bool has_exited(int rank) const { return exited_.count(rank) != 0; }
  // Of a rank that was started and is not known to have ended.
  std::optional<std::int64_t> pid_of(int rank) const;
  // The last event of this name; null before there is one.
  const Json& last(const std::string& event) { return last_[event]; }
  const std::string& transcript() const { return transcript_; }
  bool has_told(const std::string& text) const { return transcript_.find(text) != std::string::npos; }

 private:
  void read_events();
  void take(const Json& event);

  ScopedProcess launcher_;
  std::string unfinished_;  // line
  std::string transcript_;
  int generation_ = -1;
  std::map<int, std::int64_t> pids_;
  std::set<int> ready_;
  std::set<int> exited_;
  std::map<std::string, Json> last_;
};

}  // namespace deepscale::testing
