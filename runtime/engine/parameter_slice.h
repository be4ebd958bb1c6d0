// This rank's slice of some parameters, wherever it lives: a tensor on the model's device or in host memory,
// or bytes of a file.
//
// A value that refers to its elements, like a tensor. Threads and failures are those of PagedFile, where it
// lies in one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "runtime/offload/paged_file.h"

namespace deepscale {

// The whole of a slice on its way to memory.
class SliceFetch {
 public:
  SliceFetch() = default;
  SliceFetch(BlockStore::Transfer transfer, at::Tensor arrived, at::Tensor destination)
      : transfer_(std::move(transfer)),
        arrived_(std::move(arrived)),
        destination_(std::move(destination)),
        is_in_flight_(true) {}
  // Waits too, since the memory is in use until then.
  ~SliceFetch() { abandon(); }
  SliceFetch(SliceFetch&& other) noexcept { *this = std::move(other); }
  SliceFetch& operator=(SliceFetch&& other) noexcept;

  // Whether there is something to wait for.
  bool is_in_flight() const { return is_in_flight_; }
  // Blocks until the elements are there. Error(kSystem) as BlockStore.
  void wait();

 private:
  void abandon();

  BlockStore::Transfer transfer_;
  at::Tensor arrived_;      // in host memory
  at::Tensor destination_;  // the same, unless it is on a device
  bool is_in_flight_ = false;
};

class ParameterSlice {
 public:
  ParameterSlice() = default;         // no elements
  ParameterSlice(at::Tensor values);  // contiguous
  // New elements of a file, all zero. Error(kSystem) where the file cannot get larger.
  ParameterSlice(std::shared_ptr<PagedFile> file, std::int64_t numel, at::ScalarType dtype);

  std::int64_t numel() const { return numel_; }
  at::ScalarType dtype() const { return dtype_; }
  bool is_in_file() const { return file_ != nullptr; }
  bool is_on(c10::Device device) const { return tensor_.defined() && tensor_.device() == device; }
  // In its own shape; undefined where it lies in a file.
  const at::Tensor& tensor() const { return tensor_; }
  // Memory that it takes.
  std::int64_t bytes() const { return tensor_.defined() ? static_cast<std::int64_t>(tensor_.nbytes()) : 0; }

  // The elements [begin, begin + numel), flat.
  ParameterSlice part(std::int64_t begin, std::int64_t numel) const;
  // [numel]; of a tensor a view, of a file a copy on the CPU.
  at::Tensor read() const;
  // From any dtype and device, flat or not.
  void write(const at::Tensor& values) const;

  // Memory of `numel` elements, flat, to which this slice is fetched at `offset`; undefined values.
  at::Tensor memory_for(std::int64_t numel, std::int64_t offset, const at::TensorOptions& options) const;
  // Starts to bring the slice there; not a part of one. What follows it in the memory may be overwritten.
  SliceFetch fetch(const at::Tensor& memory, std::int64_t offset) const;

 private:
  at::Tensor tensor_;
  std::shared_ptr<PagedFile> file_;
  std::uint64_t file_offset_ = 0;
  std::int64_t numel_ = 0;
  at::ScalarType dtype_ = at::kFloat;
};

// Where slices live that do not live on the model's device (offload_param).
struct ParameterPlacement {
  bool on_host = false;
  std::int64_t pinned_bytes = 0;    // on the host, at most so many of them are pinned
  std::shared_ptr<PagedFile> file;  // not null: in it instead

  bool is_elsewhere() const { return on_host || file; }
};

}  // namespace deepscale
