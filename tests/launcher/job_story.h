// What `deepscale launch --json` has told: its lines, and what is known of the ranks from them.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

namespace deepscale::testing {

class JobStory {
 public:
  using Json = nlohmann::json;

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

 protected:
  // More of the output; ends anywhere.
  void hear(const std::string& output);
  const std::map<int, std::int64_t>& pids() const { return pids_; }

 private:
  void take(const Json& event);

  std::string unfinished_;  // line
  std::string transcript_;
  int generation_ = -1;
  std::map<int, std::int64_t> pids_;
  std::set<int> ready_;
  std::set<int> exited_;
  std::map<std::string, Json> last_;
};

}  // namespace deepscale::testing
