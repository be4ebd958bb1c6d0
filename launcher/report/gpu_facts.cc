#include "launcher/report/gpu_facts.h"

#include <fmt/core.h>

#include <array>

#include "comm/base/dynamic_library.h"

namespace deepscale {
namespace {

// NVML's C interface, as far as it is used here (developer.nvidia.com/management-library-nvml).
using Device = void*;
struct MemoryInfo {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
using Text = std::array<char, 96>;

std::string device_text(const DynamicLibrary& nvml, unsigned index) {
  const auto handle_of = nvml.function<int(unsigned, Device*)>("nvmlDeviceGetHandleByIndex_v2");
  const auto name_of = nvml.function<int(Device, char*, unsigned)>("nvmlDeviceGetName");
  const auto memory_of = nvml.function<int(Device, MemoryInfo*)>("nvmlDeviceGetMemoryInfo");
  Device device = nullptr;
  Text name{};
  if (!handle_of || !name_of || handle_of(index, &device) != 0 ||
      name_of(device, name.data(), name.size()) != 0) {
    return "does not answer";
  }
  MemoryInfo memory{};
  if (!memory_of || memory_of(device, &memory) != 0) return name.data();
  return fmt::format("{}, {:.1f} GB", name.data(), static_cast<double>(memory.total) / 1e9);
}

GpuFacts ask(const DynamicLibrary& nvml) {
  GpuFacts facts;
  Text driver{};
  const auto driver_version = nvml.function<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  if (driver_version && driver_version(driver.data(), driver.size()) == 0)
    facts.driver_version = driver.data();
  int cuda = 0;
  const auto cuda_version = nvml.function<int(int*)>("nvmlSystemGetCudaDriverVersion_v2");
  if (cuda_version && cuda_version(&cuda) == 0)
    facts.cuda_version = fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10);
  unsigned count = 0;
  const auto device_count = nvml.function<int(unsigned*)>("nvmlDeviceGetCount_v2");
  if (device_count && device_count(&count) != 0) count = 0;
  for (unsigned index = 0; index < count; ++index) facts.devices.push_back(device_text(nvml, index));
  return facts;
}

}  // namespace

std::optional<GpuFacts> read_gpu_facts() {
  const auto nvml = DynamicLibrary::open({"libnvidia-ml.so.1", "nvml.dll"});
  if (!nvml) return std::nullopt;
  const auto start = nvml->function<int()>("nvmlInit_v2");
  const auto stop = nvml->function<int()>("nvmlShutdown");
  if (!start || !stop || start() != 0) return std::nullopt;
  GpuFacts facts = ask(*nvml);
  stop();
  return facts;
}

}  // namespace deepscale
