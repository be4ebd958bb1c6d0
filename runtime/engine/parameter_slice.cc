#include "runtime/engine/parameter_slice.h"

#include <torch/torch.h>

#include <utility>

namespace deepscale {
namespace {

std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

std::uint64_t byte_count(std::int64_t numel, at::ScalarType dtype) {
  return static_cast<std::uint64_t>(numel) * c10::elementSize(dtype);
}

// Elements of host memory of which number `offset` lies at the begin of a page. The pages from there on to
// the end belong to the memory whole.
at::Tensor with_page_at(std::int64_t offset, std::int64_t numel, const at::TensorOptions& options) {
  const auto element = static_cast<std::int64_t>(options.dtype().itemsize());
  const std::int64_t page = static_cast<std::int64_t>(PagedFile::kPageBytes) / element;
  const at::Tensor room = at::empty({numel + 2 * page}, options);
  const auto address =
      reinterpret_cast<std::uintptr_t>(room.const_data_ptr()) / static_cast<std::uintptr_t>(element);
  const std::int64_t beyond = (static_cast<std::int64_t>(address) + offset) % page;
  return room.narrow(0, (page - beyond) % page, numel);
}

}  // namespace

SliceFetch& SliceFetch::operator=(SliceFetch&& other) noexcept {
  if (this == &other) return *this;
  abandon();
  transfer_ = std::move(other.transfer_);
  arrived_ = std::move(other.arrived_);
  destination_ = std::move(other.destination_);
  is_in_flight_ = std::exchange(other.is_in_flight_, false);
  return *this;
}

void SliceFetch::wait() {
  if (!std::exchange(is_in_flight_, false)) return;
  transfer_.wait();
  if (!arrived_.is_same(destination_)) destination_.copy_(arrived_);
}

void SliceFetch::abandon() {
  if (!std::exchange(is_in_flight_, false)) return;
  try {
    transfer_.wait();
  } catch (const std::exception&) {  // nobody wants the elements
  }
}

ParameterSlice::ParameterSlice(at::Tensor values)
    : tensor_(std::move(values)),
      numel_(tensor_.defined() ? tensor_.numel() : 0),
      dtype_(tensor_.defined() ? tensor_.scalar_type() : at::kFloat) {}

ParameterSlice::ParameterSlice(std::shared_ptr<PagedFile> file, std::int64_t numel, at::ScalarType dtype)
    : file_(std::move(file)),
      file_offset_(file_->append(byte_count(numel, dtype))),
      numel_(numel),
      dtype_(dtype) {}

ParameterSlice ParameterSlice::part(std::int64_t begin, std::int64_t numel) const {
  if (!is_in_file()) return tensor_.view({-1}).narrow(0, begin, numel);
  ParameterSlice part = *this;
  part.file_offset_ += byte_count(begin, dtype_);
  part.numel_ = numel;
  return part;
}

at::Tensor ParameterSlice::read() const {
  if (!is_in_file()) return tensor_.view({-1});
  at::Tensor values = at::empty({numel_}, dtype_);
  file_->read(file_offset_, bytes_of(values), byte_count(numel_, dtype_));
  return values;
}

void ParameterSlice::write(const at::Tensor& values) const {
  if (!is_in_file()) {
    tensor_.view({-1}).copy_(values.reshape({-1}));
    return;
  }
  const at::Tensor ours = values.to(at::kCPU, dtype_).contiguous();
  file_->write(file_offset_, bytes_of(ours), byte_count(numel_, dtype_));
}

SliceFetch ParameterSlice::fetch(const at::Tensor& memory, std::int64_t offset) const {
  const at::Tensor destination = memory.narrow(0, offset, numel_);
  if (!is_in_file()) {
    destination.copy_(tensor_.view({-1}), /*non_blocking=*/true);
    return {};
  }
  const at::Tensor arrived = destination.is_cpu()
                                 ? destination
                                 : with_page_at(0, numel_, at::TensorOptions(dtype_).pinned_memory(true));
  const std::uint64_t bytes = PagedFile::whole_pages(byte_count(numel_, dtype_));
  return {file_->read_pages(file_offset_, bytes_of(arrived), bytes), arrived, destination};
}

at::Tensor ParameterSlice::memory_for(std::int64_t numel, std::int64_t offset,
                                      const at::TensorOptions& options) const {
  return is_in_file() && options.device().is_cpu() ? with_page_at(offset, numel, options)
                                                   : at::empty({numel}, options);
}

}  // namespace deepscale
