#include <windows.h>

#include <fmt/core.h>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "runtime/offload/host_buffer.h"

namespace deepscale {

HostBuffer::HostBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = ::VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  if (memory == nullptr) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot allocate {} bytes of host memory: {}", bytes,
                                                windows_error_text(::GetLastError())));
  }
  data_ = static_cast<std::byte*>(memory);
}

HostBuffer::~HostBuffer() {
  if (data_ != nullptr) ::VirtualFree(data_, 0, MEM_RELEASE);
}

}  // namespace deepscale
