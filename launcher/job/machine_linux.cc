#include <limits.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string>
#include <vector>

#include "launcher/job/machine.h"

namespace deepscale {
namespace {

int count_usable_cores() {
  // A machine may have more cores than the fixed cpu_set_t holds; ask with a growing set until it fits.
  for (int cores = 1024; cores <= 1 << 20; cores *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(cores));
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(cores));
    const bool known = set != nullptr && sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return 1;
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
  machine.core_count = count_usable_cores();
  machine.gpu_count = count_gpus();
  machine.loopback_interface = "lo";
  return machine;
}

}  // namespace deepscale
