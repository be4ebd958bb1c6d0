// Zeroed host memory straight from the system: aligned to pages, as unbuffered file I/O wants it, and on
// large pages where the system gives them, which saves a pass over much memory from translating addresses.
// Pages take room once they are touched.
//
// Owned by one HostBuffer, freed by its end. Error(kSystem) where the system has no memory left.
#pragma once

#include <cstddef>
#include <utility>

namespace deepscale {

class HostBuffer {
 public:
  HostBuffer() = default;
  explicit HostBuffer(std::size_t bytes);
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace deepscale
