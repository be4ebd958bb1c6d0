#include "comm/base/process_memory.h"
#include "runtime/engine/device.h"

namespace deepscale {

DeviceChoice choose_device(const WorldLayout&) {
  return {c10::Device(c10::kCPU), "CPU: this build is without CUDA"};
}

void* current_stream(c10::Device) {
  return nullptr;
}

std::int64_t peak_device_bytes(c10::Device) {
  return peak_resident_bytes();
}

}  // namespace deepscale
