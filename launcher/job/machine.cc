#include "launcher/job/machine.h"

#include <charconv>

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
