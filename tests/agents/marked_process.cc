#include "tests/agents/marked_process.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <fstream>
#include <system_error>

namespace deepscale::testing {

MarkedProcess::MarkedProcess(std::vector<std::string> words, const JobMark& mark, int output) {
  std::vector<std::string> variables;
  const Environment marked = mark.environment();
  for (const auto& [name, value] : marked.variables()) variables.push_back(name + "=" + value);
  const auto pointers_to = [](std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
  };
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output, 1);
  const int error = posix_spawn(&pid_, words[0].c_str(), &actions, nullptr, pointers_to(words).data(),
                                pointers_to(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::system_error(error, std::generic_category(), words[0]);
}

MarkedProcess::~MarkedProcess() {
  if (status_) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void MarkedProcess::send(int signal) const {
  if (!status_) ::kill(pid_, signal);
}

std::optional<int> MarkedProcess::wait(Clock::duration limit) {
  int status = 0;
  const auto has_ended = [&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; };
  if (!status_ && wait_until(has_ended, limit)) status_ = status;
  return status_;
}

std::vector<pid_t> children_of(pid_t pid) {
  const std::string process = "/proc/" + std::to_string(pid);
  std::ifstream list(process + "/task/" + std::to_string(pid) + "/children");
  std::vector<pid_t> children;
  for (pid_t child = 0; list >> child;) children.push_back(child);
  return children;
}

}  // namespace deepscale::testing
