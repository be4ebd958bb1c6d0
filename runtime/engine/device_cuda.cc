#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <fmt/core.h>

#include "comm/base/process_memory.h"
#include "runtime/engine/device.h"

namespace deepscale {

DeviceChoice choose_device(const WorldLayout& layout) {
  const int count = c10::cuda::device_count();  // 0 also without a driver; never throws
  if (count == 0) return {c10::Device(c10::kCPU), "CPU: no CUDA device was found"};
  const int index = layout.local_rank % count;
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  const char* shared = layout.local_world_size > count ? ", shared by several ranks" : "";
  return {c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)),
          fmt::format("cuda:{} ({} device{}{})", index, count, count == 1 ? "" : "s", shared)};
}

void* current_stream(c10::Device device) {
  return device.is_cuda() ? c10::cuda::getCurrentCUDAStream(device.index()).stream() : nullptr;
}

std::int64_t peak_device_bytes(c10::Device device) {
  if (device.is_cpu()) return peak_resident_bytes();
  constexpr std::size_t kAllPools = 0;
  return c10::cuda::CUDACachingAllocator::getDeviceStats(device.index()).allocated_bytes[kAllPools].peak;
}

}  // namespace deepscale
