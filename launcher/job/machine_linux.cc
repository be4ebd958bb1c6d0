#include <limits.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launcher/job/machine.h"
#include "launcher/job/topology.h"

namespace deepscale {
namespace {

std::vector<int> usable_processors() {
  std::vector<int> processors;
  // A machine may have more processors than the fixed cpu_set_t holds; ask with a growing set until it fits.
  for (int room = 1024; processors.empty() && room <= 1 << 20; room *= 2) {
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(room));
    std::vector<cpu_set_t> set(bytes / sizeof(cpu_set_t) + 1);
    if (sched_getaffinity(0, bytes, set.data()) != 0) continue;
    for (int processor = 0; processor < room; ++processor) {
      if (CPU_ISSET_S(static_cast<std::size_t>(processor), bytes, set.data()))
        processors.push_back(processor);
    }
  }
  return processors;
}

// The lowest logical processor of the same core: a number that the siblings share.
int first_sibling(int processor) {
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(processor) +
                     "/topology/thread_siblings_list");
  int first = processor;
  return file >> first ? first : processor;
}

std::vector<Core> usable_cores() {
  const std::map<int, int> nodes = numa_nodes("/sys/devices/system/node");
  std::map<std::pair<int, int>, std::vector<int>> by_place;  // the NUMA node, then a processor of the core
  for (const int processor : usable_processors()) {
    const auto node = nodes.find(processor);
    by_place[{node == nodes.end() ? 0 : node->second, first_sibling(processor)}].push_back(processor);
  }
  std::vector<Core> cores;
  for (auto& [place, processors] : by_place) cores.push_back({std::move(processors), place.first});
  return cores.empty() ? Machine().cores : cores;
}

// The launcher holds six descriptors for each rank at most: two pipes, the link to its supervisor, the
// connections to the store and to the agent, a log file. A rank is two processes at least.
int most_ranks_by_limits() {
  constexpr rlim_t kOurOwn = 64;
  constexpr rlim_t kOfEachRank = 6;
  rlim_t most = 1 << 20;
  rlimit descriptors = {};
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 && descriptors.rlim_max != RLIM_INFINITY)
    most = std::min(most, (std::max(descriptors.rlim_max, kOurOwn + kOfEachRank) - kOurOwn) / kOfEachRank);
  rlim_t threads = 0;
  if (std::ifstream("/proc/sys/kernel/threads-max") >> threads) most = std::min(most, threads / 2);
  return static_cast<int>(std::max<rlim_t>(most, 1));
}

// One device file per GPU that this container may use: /dev/nvidia0, /dev/nvidia1, ...
int count_gpus() {
  std::error_code failure;
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/dev", failure)) {
    const std::string name = entry.path().filename().string();
    const std::string prefix = "nvidia";
    const bool is_device = name.size() > prefix.size() && name.rfind(prefix, 0) == 0 &&
                           std::all_of(name.begin() + static_cast<std::ptrdiff_t>(prefix.size()), name.end(),
                                       [](unsigned char c) { return std::isdigit(c) != 0; });
    if (is_device) ++count;
  }
  return count;
}

}  // namespace

Machine Machine::of_this() {
  Machine machine;
  char name[HOST_NAME_MAX + 1] = {};
  if (gethostname(name, sizeof name - 1) == 0) machine.host_name = name;
  machine.cores = usable_cores();
  std::ifstream own_cgroups("/proc/self/cgroup");
  machine.processor_quota =
      quota_of_processors("/sys/fs/cgroup", {std::istreambuf_iterator<char>(own_cgroups), {}});
  machine.most_ranks = most_ranks_by_limits();
  machine.what_limits_ranks = "open files: ulimit -Hn; threads: /proc/sys/kernel/threads-max";
  machine.gpu_count = count_gpus();
  machine.loopback_interface = "lo";
  return machine;
}

void Machine::learn_gpu_places() {
  gpus = gpus_of_driver("/proc/driver/nvidia/gpus", "/sys/bus/pci/devices");
}

}  // namespace deepscale
