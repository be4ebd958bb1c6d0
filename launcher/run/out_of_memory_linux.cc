#include <fstream>
#include <string>
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
std::vector<std::string> counter_files() {
  std::vector<std::string> files;
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

}  // namespace

std::optional<std::int64_t> count_out_of_memory_kills() {
  for (const std::string& file : counter_files()) {
    if (const auto count = read_counter(file, "oom_kill")) return count;
  }
  return std::nullopt;
}

}  // namespace deepscale
