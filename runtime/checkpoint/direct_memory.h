// Memory that transfers past the system's cache may use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace deepscale {

constexpr std::int64_t kDirectAlignment = 4096;

struct DirectMemoryDeleter {
  void operator()(std::byte* memory) const {
    ::operator delete[](memory, std::align_val_t{kDirectAlignment});
  }
};
using DirectMemory = std::unique_ptr<std::byte[], DirectMemoryDeleter>;

inline DirectMemory allocate_direct(std::size_t bytes) {
  return DirectMemory(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{kDirectAlignment})));
}

}  // namespace deepscale
