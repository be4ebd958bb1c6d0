// The compute device of a rank. device_cpu.cc or device_cuda.cc implements it, chosen by CMake.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "comm/base/world_layout.h"

namespace deepscale {

struct DeviceChoice {
  c10::Device device;
  std::string reason;  // one line for the log: "cuda:1 (2 devices)", "CPU: this build is without CUDA"
};

// The local rank's CUDA device where the build has CUDA and a device is there, else the CPU. More local ranks
// than devices: the devices are shared round robin, and the reason says so. Makes the CUDA device current for
// the calling thread.
DeviceChoice choose_device(const WorldLayout& layout);

// The stream on which this thread's operators on `device` run (a cudaStream_t); null on the CPU.
void* current_stream(c10::Device device);

// The most bytes that tensors had at a time on the device; on the CPU, that were resident.
std::int64_t peak_device_bytes(c10::Device device);

}  // namespace deepscale
