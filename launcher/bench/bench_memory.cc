#include "launcher/bench/bench_memory.h"

#include <cstring>
#include <vector>

namespace deepscale {

namespace {

void copy_on_host(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

}  // namespace

BenchMemory plain_memory(std::size_t half_bytes) {
  const auto bytes = std::make_shared<std::vector<std::byte>>(2 * half_bytes);
  return {{bytes, bytes->data()}, half_bytes, DeviceKind::kCpu, copy_on_host};
}

BenchMemory shared_memory(Communicator& communicator, std::size_t half_bytes) {
  return {communicator.allocate_shared(2 * half_bytes), half_bytes, DeviceKind::kCpu, copy_on_host};
}

BenchMemory device_memory(std::shared_ptr<const cuda::Device> device, std::size_t half_bytes) {
  const auto memory = std::make_shared<cuda::Memory>(device, 2 * half_bytes);
  const std::vector<std::byte> zeros(half_bytes);
  BenchMemory made{
      {memory, memory->data()},
      half_bytes,
      DeviceKind::kCuda,
      [device](void* to, const void* from, std::size_t bytes) { cuda::copy(*device, to, from, bytes); }};
  made.copy(made.first(), zeros.data(), half_bytes);
  made.copy(made.second(), zeros.data(), half_bytes);
  return made;
}

}  // namespace deepscale
