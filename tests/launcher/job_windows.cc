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
  hear(launcher_.read_output());
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

}  // namespace deepscale::testing
