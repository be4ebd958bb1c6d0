// What the files of Linux tell about the machine's processors and GPUs.
//
// Pure readers of the folders that they are given, so that tests can show them machines that are not here.
// What cannot be read is left out.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/job/machine.h"

namespace deepscale {

// The NUMA node of each processor; `nodes` is /sys/devices/system/node.
std::map<int, int> numa_nodes(const std::string& nodes);

// How much time of processors a cgroup may use, in processors: the least of it and those above it.
// `cgroups` is /sys/fs/cgroup, `own_cgroups` has the lines of /proc/self/cgroup (cgroups(7), version 1 or 2).
std::optional<double> quota_of_processors(const std::string& cgroups, const std::string& own_cgroups);

// In the order of their PCI addresses; `driver` is /proc/driver/nvidia/gpus, `devices` /sys/bus/pci/devices.
std::vector<Gpu> gpus_of_driver(const std::string& driver, const std::string& devices);

}  // namespace deepscale
