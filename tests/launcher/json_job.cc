#include "tests/launcher/json_job.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace deepscale::testing {
namespace {
constexpr std::size_t kLongestToldLine = 1000;  // what ranks print in bulk says nothing
}

JsonJob::JsonJob(const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  read_end_ = ends[0];
  ::fcntl(read_end_, F_SETFL, O_NONBLOCK);
  std::vector<std::string> words = {DEEPSCALE_TEST_LAUNCHER, "launch", "--json"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  launcher_.emplace(std::move(words), mark_, ends[1]);
  ::close(ends[1]);
}

JsonJob::~JsonJob() {
  ::close(read_end_);
}

void JsonJob::read_events() {
  char bytes[4096];
  for (ssize_t size = 0; (size = ::read(read_end_, bytes, sizeof bytes)) > 0;) {
    unfinished_.append(bytes, static_cast<std::size_t>(size));
  }
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = unfinished_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = unfinished_.substr(begin, end - begin);
    if (line.size() < kLongestToldLine) transcript_ += line + "\n";
    take(Json::parse(line));
  }
  unfinished_.erase(0, begin);
}

void JsonJob::take(const Json& event) {
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

bool JsonJob::wait_for(const std::function<bool()>& condition, Clock::duration limit) {
  return wait_until(
      [&] {
        read_events();
        return condition();
      },
      limit);
}

std::optional<int> JsonJob::finish(Clock::duration limit) {
  std::optional<int> status;
  wait_for([&] { return (status = launcher_->wait({})).has_value(); }, limit);
  read_events();
  return status;
}

std::optional<pid_t> JsonJob::pid_of(int rank) const {
  const auto found = pids_.find(rank);
  if (found == pids_.end() || has_exited(rank)) return std::nullopt;
  return found->second;
}

std::optional<int> JsonJob::rank_below(pid_t supervisor) const {
  const auto children = children_of(supervisor);
  for (const auto& [rank, pid] : pids_) {
    if (std::find(children.begin(), children.end(), pid) != children.end()) return rank;
  }
  return std::nullopt;
}

}  // namespace deepscale::testing
