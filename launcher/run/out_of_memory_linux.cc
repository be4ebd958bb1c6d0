#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "launcher/run/out_of_memory.h"

namespace deepscale {
namespace {

constexpr const char* kWholeMachine = "/proc/vmstat";
constexpr const char* kFirstProcessNamespace = "pid:[4026531836]";

// The number behind `key` in a file of "key number" lines.
std::optional<std::int64_t> read_number(const std::string& path, const std::string& key) {
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
               {"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", kWholeMachine});
  return files;
}

// The kernel log counts process ids as the first namespace does.
bool are_our_pids_the_kernels() {
  std::array<char, 64> name = {};
  const ssize_t size = ::readlink("/proc/self/ns/pid", name.data(), name.size() - 1);
  return size > 0 && std::string(name.data(), static_cast<std::size_t>(size)) == kFirstProcessNamespace;
}

std::optional<bool> search_kernel_log(std::int64_t pid, std::chrono::microseconds since) {
  if (!are_our_pids_the_kernels()) return std::nullopt;
  const int log = ::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (log < 0) return std::nullopt;
  std::optional<bool> is_named;
  std::array<char, 8192> record;
  while (is_named != true) {
    const ssize_t size = ::read(log, record.data(), record.size());  // one record each
    if (size > 0) {
      const auto found = names_killed_process({record.data(), static_cast<std::size_t>(size)}, pid, since);
      if (found) is_named = found;
    } else if (size == 0 ||
               (errno != EPIPE && errno != EINTR)) {  // EPIPE: records were overwritten meanwhile
      break;
    }
  }
  ::close(log);
  return is_named;
}

}  // namespace

OutOfMemoryWatch::Counter OutOfMemoryWatch::read_counter() const {
  for (const std::string& file : counter_files(job_cgroup_)) {
    if (const auto kills = read_number(file, "oom_kill")) return {kills, file == kWholeMachine};
  }
  return {};
}

OutOfMemoryWatch::OutOfMemoryWatch(std::string job_cgroup)
    : job_cgroup_(std::move(job_cgroup)), at_start_(read_counter()) {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  started_at_ = std::chrono::seconds(now.tv_sec) + std::chrono::microseconds(now.tv_nsec / 1000);
}

MemoryEvidence OutOfMemoryWatch::evidence(std::int64_t pid) const {
  const Counter now = read_counter();
  MemoryEvidence evidence;
  if (now.kills && at_start_.kills) evidence.kills = *now.kills - *at_start_.kills;
  evidence.counts_whole_machine = now.counts_whole_machine;
  if (evidence.kills.value_or(1) > 0) evidence.log_names_it = search_kernel_log(pid, started_at_);
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  if (pages > 0) {
    evidence.total_bytes =
        static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  return evidence;
}

}  // namespace deepscale
