// The NVIDIA devices as their management library (NVML) tells. The library is opened at run time and closed
// again.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace deepscale {

struct GpuFacts {
  std::string driver_version;
  std::string cuda_version;          // the newest that the driver can serve; empty when unknown
  std::vector<std::string> devices;  // "NVIDIA H100 80GB HBM3, 85.5 GB"
};

// Nothing where there is no driver or it does not answer.
std::optional<GpuFacts> read_gpu_facts();

}  // namespace deepscale
