#include "agents/process/supervisors_linux.h"

#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>
#include <vector>

namespace deepscale {
namespace {

std::vector<pid_t> children_of_this_process() {
  std::vector<pid_t> children;
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream list(task.path() / "children");
    for (pid_t pid = 0; list >> pid;) children.push_back(pid);
  }
  return children;
}

}  // namespace

boost::asio::execution_context::id Supervisors::id;

Supervisors::Supervisors(boost::asio::execution_context& context) : service(context) {
  ::getrlimit(RLIMIT_NOFILE, &descriptor_limit_);
  const rlimit raised = {descriptor_limit_.rlim_max, descriptor_limit_.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &raised);
}

bool Supervisors::kill_orphans() const {
  bool found = false;
  for (const pid_t pid : children_of_this_process()) {
    if (pids_.count(pid) != 0) continue;
    found = true;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, WNOHANG);
  }
  return found;
}

void Supervisors::end_orphans(Deadline deadline) const {
  while (kill_orphans() && !deadline.has_passed()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // whose child ends when is not known before
  }
}

}  // namespace deepscale
