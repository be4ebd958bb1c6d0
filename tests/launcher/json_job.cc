#include "tests/launcher/json_job.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace deepscale::testing {

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
    hear({bytes, static_cast<std::size_t>(size)});
  }
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

std::optional<int> JsonJob::rank_below(pid_t supervisor) const {
  const auto children = children_of(supervisor);
  for (const auto& [rank, pid] : pids()) {
    if (std::find(children.begin(), children.end(), pid) != children.end()) return rank;
  }
  return std::nullopt;
}

}  // namespace deepscale::testing
