#include <fmt/core.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "tests/agents/child_run.h"

namespace deepscale::testing {
namespace {

constexpr const char* kMarkName = "DEEPSCALE_TEST_JOB";

// Its state and what follows: proc(5), stat. Empty when it is not there.
std::string stat_after_name(const std::filesystem::path& process) {
  std::string stat;
  std::ifstream file(process / "stat");
  std::getline(file, stat);
  const auto end_of_name = stat.rfind(") ");
  return end_of_name == std::string::npos ? "" : stat.substr(end_of_name + 2);
}

bool is_alive(const std::filesystem::path& process) {
  const std::string stat = stat_after_name(process);
  return !stat.empty() && stat[0] != 'Z' && stat[0] != 'X';
}

}  // namespace

bool is_alive(std::int64_t pid) {
  return is_alive(std::filesystem::path(fmt::format("/proc/{}", pid)));
}

std::int64_t parent_of(std::int64_t pid) {
  return std::stoll(stat_after_name(fmt::format("/proc/{}", pid)).substr(2));
}

void suspend_process(std::int64_t pid) {
  ::kill(static_cast<pid_t>(pid), SIGSTOP);
}

JobMark::JobMark() {
  std::random_device random;
  value_ = fmt::format("{:08x}{:08x}", random(), random());
}

Environment JobMark::environment() const {
  Environment environment = Environment::of_process();
  environment.set(kMarkName, value_);
  return environment;
}

int JobMark::living_processes() const {
  const std::string mark = fmt::format("{}={}", kMarkName, value_);
  int count = 0;
  std::error_code ignored;
  for (const auto& process : std::filesystem::directory_iterator("/proc", ignored)) {
    std::ifstream file(process.path() / "environ", std::ios::binary);
    const std::string variables{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (variables.find(mark) != std::string::npos && is_alive(process.path())) ++count;
  }
  return count;
}

}  // namespace deepscale::testing
