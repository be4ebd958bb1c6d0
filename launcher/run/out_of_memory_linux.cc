#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/run/failure_report.h"

namespace deepscale {
namespace {

// The number behind `key` in a file of "key number" lines.
std::optional<std::int64_t> read_counter(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  std::int64_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
  }
  return std::nullopt;
}

// The files that may count for our memory cgroup. /proc/self/cgroup has "0::/user.slice/x" (version 2) or
// "4:memory:/x" (version 1); inside a container that path may not exist, and the container's own cgroup is
// the root.
std::vector<std::string> counter_files(const std::string& job_cgroup) {
  std::vector<std::string> files;
  if (!job_cgroup.empty()) files.push_back(job_cgroup + "/memory.events");
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto memory = line.find(":memory:");
    if (memory != std::string::npos)
      files.push_back("/sys/fs/cgroup/memory" + line.substr(memory + 8) + "/memory.oom_control");
    if (line.rfind("0::", 0) == 0) files.push_back("/sys/fs/cgroup" + line.substr(3) + "/memory.events");
  }
  files.insert(files.end(),
               {"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat"});
  return files;
}

// Elsewhere the log counts processes otherwise than we do.
bool is_first_pid_namespace() {
  constexpr std::string_view kFirst = "pid:[4026531836]";  // PROC_PID_INIT_INO
  std::error_code failure;
  return std::filesystem::read_symlink("/proc/self/ns/pid", failure) == kFirst;
}

// "6,1234,5678901,-;Text": the third number counts microseconds as the steady clock does, nearly.
bool was_logged_since(std::string_view record, Clock::time_point since) {
  constexpr auto kTolerance = std::chrono::seconds(2);
  for (int i = 0; i < 2; ++i) record.remove_prefix(std::min(record.find(',') + 1, record.size()));
  std::int64_t microseconds = 0;
  std::from_chars(record.data(), record.data() + record.size(), microseconds);
  return std::chrono::microseconds(microseconds) >= since.time_since_epoch() - kTolerance;
}

}  // namespace

std::optional<bool> kernel_log_names(std::int64_t pid, Clock::time_point since) {
  if (!is_first_pid_namespace()) return std::nullopt;
  const int log = ::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (log < 0) return std::nullopt;
  const std::string words = fmt::format("Killed process {} ", pid);
  std::array<char, 8192> record;  // one at each read, the oldest first
  bool is_named = false;
  ssize_t size = 0;
  // EPIPE: the log has overwritten some, and goes on with the next.
  while (!is_named && ((size = ::read(log, record.data(), record.size())) > 0 || errno == EPIPE)) {
    const std::string_view text(record.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    is_named = text.find(words) != std::string_view::npos && was_logged_since(text, since);
  }
  ::close(log);
  return is_named;
}

std::optional<std::int64_t> count_out_of_memory_kills(const std::string& job_cgroup) {
  for (const std::string& file : counter_files(job_cgroup)) {
    if (const auto count = read_counter(file, "oom_kill")) return count;
  }
  return std::nullopt;
}

}  // namespace deepscale
