#include "launcher/job/machine.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

namespace deepscale {
namespace {

// Numbers must name an existing device; identifiers (GPU-..., MIG-...) are left to CUDA to judge.
bool names_a_device(const std::string& entry, int gpu_count) {
  int number = 0;
  const auto [end, failure] = std::from_chars(entry.data(), entry.data() + entry.size(), number);
  const bool is_number = failure == std::errc() && end == entry.data() + entry.size();
  if (is_number) return number >= 0 && number < gpu_count;
  return entry.rfind("GPU-", 0) == 0 || entry.rfind("MIG-", 0) == 0;
}

}  // namespace

bool Machine::is_called(const std::string& name) const {
  if (name == "localhost" || name == "::1" || name.rfind("127.", 0) == 0) return true;
  const auto without_domain = [](const std::string& host) { return host.substr(0, host.find('.')); };
  if (name.find('.') != std::string::npos && host_name.find('.') != std::string::npos)
    return name == host_name;
  return !host_name.empty() && without_domain(name) == without_domain(host_name);
}

int Machine::usable_core_count() const {
  const double quota = std::max(1.0, std::ceil(processor_quota.value_or(core_count())));
  return quota < core_count() ? static_cast<int>(quota) : core_count();
}

int Machine::numa_node_of_gpu(const std::string& device) const {
  std::size_t index = 0;
  const auto [end, failure] = std::from_chars(device.data(), device.data() + device.size(), index);
  if (failure == std::errc() && end == device.data() + device.size())
    return index < gpus.size() ? gpus[index].numa_node : -1;
  // CUDA takes any beginning of the identifier; that of a part is, in its older form, MIG-GPU-<uuid>/<i>/<j>.
  constexpr std::string_view kPart = "MIG-";
  const std::string wanted = device.rfind("MIG-GPU-", 0) == 0
                                 ? device.substr(kPart.size(), device.find('/') - kPart.size())
                                 : device;
  for (const Gpu& gpu : gpus) {
    if (gpu.uuid.rfind(wanted, 0) == 0) return gpu.numa_node;
  }
  return -1;
}

std::vector<std::string> visible_gpus(const Environment& environment, int gpu_count) {
  std::vector<std::string> devices;
  if (gpu_count == 0) return devices;
  const auto listed = environment.get("CUDA_VISIBLE_DEVICES");
  if (!listed) {
    for (int device = 0; device < gpu_count; ++device) devices.push_back(std::to_string(device));
    return devices;
  }
  for (std::size_t start = 0; start <= listed->size();) {
    const std::size_t comma = std::min(listed->find(',', start), listed->size());
    std::string entry = listed->substr(start, comma - start);
    std::erase(entry, ' ');
    if (!names_a_device(entry, gpu_count)) break;
    devices.push_back(std::move(entry));
    start = comma + 1;
  }
  return devices;
}

}  // namespace deepscale
