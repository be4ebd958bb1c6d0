#include "runtime/engine/tensor_collectives.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include "comm/base/error.h"
#include "runtime/engine/device.h"

namespace deepscale {

namespace {

// As raw bytes, for operations that only copy.
Buffer to_bytes(const at::Tensor& tensor) {
  if (!tensor.is_contiguous()) {
    throw Error(ErrorCode::kInternal, "a collective was given a tensor that is not contiguous");
  }
  return Buffer{.data = tensor.data_ptr(),
                .count = static_cast<std::int64_t>(tensor.nbytes()),
                .dtype = DType::kUInt8,
                .device = tensor.is_cuda() ? DeviceKind::kCuda : DeviceKind::kCpu,
                .stream = current_stream(tensor.device())};
}

Buffer to_buffer(const at::Tensor& tensor) {
  Buffer buffer = to_bytes(tensor);
  buffer.count = tensor.numel();
  buffer.dtype = to_dtype(tensor.scalar_type());
  return buffer;
}

// In memory that the GPU copies to and from by itself.
at::Tensor empty_on_host(const at::Tensor& tensor) {
  return at::empty(tensor.sizes(), tensor.options().device(at::kCPU).pinned_memory(true));
}

at::Tensor copy_to_host(const at::Tensor& tensor) {
  return empty_on_host(tensor).copy_(tensor);
}

// The host goes on; what the thread enqueues next sees the values.
void copy_from_host(const at::Tensor& tensor, const at::Tensor& staged) {
  tensor.copy_(staged, /*non_blocking=*/true);
}

}  // namespace

DType to_dtype(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kHalf:
      return DType::kFloat16;
    case at::kInt:
      return DType::kInt32;
    case at::kLong:
      return DType::kInt64;
    case at::kByte:
      return DType::kUInt8;
    case at::kBool:
      return DType::kUInt8;
    default:
      throw Error(ErrorCode::kUnsupported, fmt::format("tensors of type {} cannot be sent between ranks; use "
                                                       "fp32, bf16, fp16, int32, int64, uint8 or bool",
                                                       c10::toString(type)));
  }
}

at::ScalarType to_scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return at::kFloat;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kFloat16:
      return at::kHalf;
    case DType::kInt32:
      return at::kInt;
    case DType::kInt64:
      return at::kLong;
    case DType::kUInt8:
      return at::kByte;
  }
  throw Error(ErrorCode::kInternal, "to_scalar_type: unknown dtype");
}

TensorWork::~TensorWork() {
  try {
    wait_for_work();
  } catch (const std::exception&) {
    // The communicator is broken, and whoever uses it next is told.
  }
}

void TensorWork::wait_for_work() {
  if (device_.is_cuda()) {
    work_.wait_on(current_stream(device_));
  } else {
    work_.wait();
  }
}

void TensorWork::wait() {
  wait_for_work();
  work_ = Work();
  if (finish_) finish_();
  finish_ = nullptr;
}

TensorCollectives::TensorCollectives(std::shared_ptr<Communicator> communicator)
    : communicator_(std::move(communicator)) {}

bool TensorCollectives::needs_staging(const at::Tensor& tensor) const {
  return tensor.is_cuda() && !communicator_->supports(DeviceKind::kCuda);
}

TensorWork TensorCollectives::all_reduce(at::Tensor tensor, ReduceOp op) {
  if (!needs_staging(tensor))
    return TensorWork(communicator_->all_reduce(to_buffer(tensor), op), tensor.device(), [tensor] {});
  const at::Tensor staged = copy_to_host(tensor);
  return TensorWork(communicator_->all_reduce(to_buffer(staged), op), staged.device(),
                    [tensor, staged] { copy_from_host(tensor, staged); });
}

TensorWork TensorCollectives::reduce_scatter(at::Tensor input, at::Tensor output, ReduceOp op) {
  if (!needs_staging(input)) {
    return TensorWork(communicator_->reduce_scatter(to_buffer(input), to_buffer(output), op), input.device(),
                      [input, output] {});
  }
  const at::Tensor staged_input = copy_to_host(input);
  const at::Tensor staged_output = empty_on_host(output);
  return TensorWork(communicator_->reduce_scatter(to_buffer(staged_input), to_buffer(staged_output), op),
                    staged_input.device(),
                    [staged_input, staged_output, output] { copy_from_host(output, staged_output); });
}

TensorWork TensorCollectives::all_gather(at::Tensor input, at::Tensor output) {
  if (!needs_staging(output)) {
    return TensorWork(communicator_->all_gather(to_buffer(input), to_buffer(output)), output.device(),
                      [input, output] {});
  }
  const at::Tensor staged_input = copy_to_host(input);
  const at::Tensor staged_output = empty_on_host(output);
  return TensorWork(communicator_->all_gather(to_buffer(staged_input), to_buffer(staged_output)),
                    staged_input.device(),
                    [staged_input, staged_output, output] { copy_from_host(output, staged_output); });
}

TensorWork TensorCollectives::broadcast(at::Tensor tensor, int root) {
  if (!needs_staging(tensor))
    return TensorWork(communicator_->broadcast(to_bytes(tensor), root), tensor.device(), [tensor] {});
  const at::Tensor staged = copy_to_host(tensor);
  return TensorWork(communicator_->broadcast(to_bytes(staged), root), staged.device(),
                    [tensor, staged] { copy_from_host(tensor, staged); });
}

}  // namespace deepscale
