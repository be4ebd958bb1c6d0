// A real `deepscale launch --json` as a direct child of the test, and what it has told so far. Linux only.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/agents/marked_process.h"

namespace deepscale::testing {

class JsonJob {
 public:
  using Json = nlohmann::json;

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
  bool wait_for(const std::function<bool()>& condition, Clock::duration limit);
  // To the launcher's end: its wait status. Nothing when it does not end in time.
  std::optional<int> finish(Clock::duration limit);

  // In the latest generation that was told of; -1 before the first.
  int generation() const { return generation_; }
  int ranks_started() const { return static_cast<int>(pids_.size()); }
  int ranks_ready() const { return static_cast<int>(ready_.size()); }  // have printed "ready"
  bool has_exited(int rank) const { return exited_.count(rank) != 0; }
  // Of a rank that was started and is not known to have ended.
  std::optional<pid_t> pid_of(int rank) const;
  // Which rank a supervisor holds, when that was started.
  std::optional<int> rank_below(pid_t supervisor) const;

  // The last event of this name; null before there is one.
  const Json& last(const std::string& event) { return last_[event]; }
  const std::string& transcript() const { return transcript_; }

 private:
  void take(const Json& event);

  const JobMark mark_;
  int read_end_ = -1;
  std::optional<MarkedProcess> launcher_;
  std::string unfinished_;  // line
  std::string transcript_;
  int generation_ = -1;
  std::map<int, pid_t> pids_;
  std::set<int> ready_;
  std::set<int> exited_;
  std::map<std::string, Json> last_;
};

}  // namespace deepscale::testing
