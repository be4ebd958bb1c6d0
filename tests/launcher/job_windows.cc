#include "tests/launcher/job_windows.h"

#include <windows.h>

#include "tests/agents/child_run.h"

namespace deepscale::testing {
namespace {

std::vector<std::string> launch_arguments(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"launch", "--json"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

}  // namespace

WindowsJob::WindowsJob(const std::vector<std::string>& arguments)
    : launcher_(DEEPSCALE_TEST_LAUNCHER, launch_arguments(arguments)) {}

bool WindowsJob::ask_to_stop(Clock::duration limit) {
  const std::wstring name = L"Local\\deepscale-stop-" + std::to_wstring(launcher_.pid());
  HANDLE event = nullptr;
  wait_for([&] { return (event = OpenEventW(EVENT_MODIFY_STATE, FALSE, name.c_str())) != nullptr; }, limit);
  if (event == nullptr) return false;
  SetEvent(event);
  CloseHandle(event);
  return true;
}

void WindowsJob::read_events() {
  unfinished_ += launcher_.read_output();
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = unfinished_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = unfinished_.substr(begin, end - begin);
    transcript_ += line + "\n";
    take(Json::parse(line));
  }
  unfinished_.erase(0, begin);
}

void WindowsJob::take(const Json& event) {
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

bool WindowsJob::wait_for(const std::function<bool()>& condition, Clock::duration limit) {
  return wait_until(
      [&] {
        read_events();
        return condition();
      },
      limit);
}

std::optional<unsigned> WindowsJob::finish(Clock::duration limit) {
  std::optional<unsigned> code;
  wait_for([&] { return (code = launcher_.wait({})).has_value(); }, limit);
  read_events();
  return code;
}

std::optional<std::int64_t> WindowsJob::pid_of(int rank) const {
  const auto found = pids_.find(rank);
  if (found == pids_.end() || has_exited(rank)) return std::nullopt;
  return found->second;
}

}  // namespace deepscale::testing
