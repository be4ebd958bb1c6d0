// The facts about this machine that a plan depends on. A value, so that plans can be tested for machines that
// are not here.
#pragma once

#include <string>
#include <vector>

#include "comm/base/environment.h"

namespace deepscale {

struct Machine {
  std::string host_name;
  // The cores that this process may use, each with its logical processors, ascending.
  std::vector<std::vector<int>> cores = {{0}};
  int gpu_count = 0;               // NVIDIA devices, whatever CUDA_VISIBLE_DEVICES says
  std::string loopback_interface;  // "lo"; empty where libraries take no name for it

  int core_count() const { return static_cast<int>(cores.size()); }

  // Asks the system; takes well under a millisecond and loads no driver. What cannot be found out keeps its
  // default.
  static Machine of_this();

  // True for the host names that mean this machine: its own, with or without domain, localhost, and loopback
  // addresses.
  bool is_called(const std::string& name) const;
};

// The devices that CUDA would show to a child of this environment, in CUDA's order: numbers, or the
// identifiers that CUDA_VISIBLE_DEVICES lists. As in CUDA, the list ends at the first entry that names no
// device.
std::vector<std::string> visible_gpus(const Environment& environment, int gpu_count);

}  // namespace deepscale
