#include "tests/launcher/job_story.h"

namespace deepscale::testing {

void JobStory::hear(const std::string& output) {
  constexpr std::size_t kLongestToldLine = 1000;  // what ranks print in bulk says nothing
  unfinished_ += output;
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = unfinished_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = unfinished_.substr(begin, end - begin);
    if (line.size() < kLongestToldLine) transcript_ += line + "\n";
    take(Json::parse(line));
  }
  unfinished_.erase(0, begin);
}

void JobStory::take(const Json& event) {
  const std::string name = event["event"];
  if (name == "job_started") {
    generation_ = event["generation"];
    pids_.clear();
    ready_.clear();
    exited_.clear();
  }
  if (name == "rank_started") pids_[event["rank"]] = event["pid"];
  if (name == "rank_exited") exited_.insert(event["rank"].get<int>());
  if (name == "output" && event["text"] == "ready") ready_.insert(event["rank"].get<int>());
  last_[name] = event;
}

std::optional<std::int64_t> JobStory::pid_of(int rank) const {
  const auto found = pids_.find(rank);
  if (found == pids_.end() || has_exited(rank)) return std::nullopt;
  return found->second;
}

}  // namespace deepscale::testing
