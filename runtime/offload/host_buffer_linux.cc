#include <fmt/core.h>
#include <sys/mman.h>

#include <cerrno>
#include <system_error>

#include "comm/base/error.h"
#include "runtime/offload/host_buffer.h"

namespace deepscale {

HostBuffer::HostBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot allocate {} bytes of host memory: {}", bytes,
                                                std::generic_category().message(errno)));
  }
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a hint; systems without large pages refuse it
  data_ = static_cast<std::byte*>(memory);
}

HostBuffer::~HostBuffer() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace deepscale
