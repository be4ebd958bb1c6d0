// The facts about this machine that a plan depends on. A value, so that plans can be tested for machines that
// are not here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/base/environment.h"

namespace deepscale {

struct Core {
  std::vector<int> processors;  // logical, ascending
  int numa_node = 0;
};

struct Gpu {
  std::string uuid;    // "GPU-8932f937-..."
  int numa_node = -1;  // whose processors are near it; -1: the system does not say
};

struct Machine {
  std::string host_name;
  std::vector<Core> cores = {{{0}, 0}};  // that this process may use; by NUMA node, then by processor
  // How many processors' worth of time it may use, where a limit of its container says so (cgroup cpu.max).
  std::optional<double> processor_quota;
  int most_ranks = 1 << 20;        // that the limits of this system let one launcher start
  std::string what_limits_ranks;   // and where they are set
  int gpu_count = 0;               // NVIDIA devices, whatever CUDA_VISIBLE_DEVICES says
  std::vector<Gpu> gpus;           // learn_gpu_places(); in CUDA's order where all are of one kind
  std::string loopback_interface;  // "lo"; empty where libraries take no name for it

  int core_count() const { return static_cast<int>(cores.size()); }
  // How many cores a job can keep busy: all, or what the quota allows; at least 1.
  int usable_core_count() const;

  // Asks the system; takes well under a millisecond and loads no driver. What cannot be found out keeps its
  // default.
  static Machine of_this();

  // Asks the NVIDIA driver's files what each GPU is near to. Apart, since it can take some milliseconds.
  void learn_gpu_places();

  // Of an entry of visible_gpus(); -1 where that is not known.
  int numa_node_of_gpu(const std::string& device) const;

  // True for the host names that mean this machine: its own, with or without domain, localhost, and loopback
  // addresses.
  bool is_called(const std::string& name) const;
};

// The devices that CUDA would show to a child of this environment, in CUDA's order: numbers, or the
// identifiers that CUDA_VISIBLE_DEVICES lists. As in CUDA, the list ends at the first entry that names no
// device.
std::vector<std::string> visible_gpus(const Environment& environment, int gpu_count);

}  // namespace deepscale
