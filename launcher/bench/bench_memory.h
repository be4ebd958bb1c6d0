// What `deepscale bench comm` works on: memory of one kind, as two halves that hold the whole tensor each.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "comm/communicator.h"
#include "comm/nccl/cuda_driver.h"

namespace deepscale {

struct BenchMemory {
  std::shared_ptr<std::byte> data;  // zeros at first; owns both halves
  std::size_t half_bytes = 0;
  DeviceKind device = DeviceKind::kCpu;
  // Between this memory and that of the program, or within either; returns when it is done.
  std::function<void(void* to, const void* from, std::size_t bytes)> copy;

  std::byte* first() const { return data.get(); }
  std::byte* second() const { return data.get() + half_bytes; }
};

// The program's own.
BenchMemory plain_memory(std::size_t half_bytes);
// That of Communicator::allocate_shared(), which all ranks call together.
BenchMemory shared_memory(Communicator& communicator, std::size_t half_bytes);
// Of a GPU; Error(kSystem) where it has no room.
BenchMemory device_memory(std::shared_ptr<const cuda::Device> device, std::size_t half_bytes);

}  // namespace deepscale
