// Collectives over tensors, on top of a Communicator.
//
// Tensors must be contiguous. They stay alive until their TensorWork was waited for. A tensor on a device
// that the backend does not take goes through a host copy: copied out when the operation starts, copied back
// by wait(). One that it takes ("nccl") moves in the order of streams: after what the thread's current stream
// holds when the operation starts; and what the thread enqueues after wait() comes behind it, while the host
// goes on. Blocking and failures are those of Communicator; used from one thread at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace deepscale {

// One operation in flight. Its end waits too, since the operation uses the tensors until then; whoever gives
// up aborts the communicator first.
class TensorWork {
 public:
  TensorWork() = default;
  // `device` is that of the buffers which the communicator got.
  TensorWork(Work work, c10::Device device, std::function<void()> finish)
      : work_(std::move(work)), device_(device), finish_(std::move(finish)) {}
  ~TensorWork();
  TensorWork(TensorWork&&) = default;
  TensorWork& operator=(TensorWork&&) = delete;
  // Blocks until the result is in the output tensor, or is ordered before what this thread enqueues on the
  // device next. Once; later calls do nothing.
  void wait();

 private:
  void wait_for_work();

  Work work_;
  c10::Device device_ = c10::Device(c10::kCPU);
  std::function<void()> finish_;  // keeps the tensors, copies the result back where it was staged
};

class TensorCollectives {
 public:
  explicit TensorCollectives(std::shared_ptr<Communicator> communicator);

  Communicator& communicator() const { return *communicator_; }
  int rank() const { return communicator_->rank(); }
  int size() const { return communicator_->size(); }

  TensorWork all_reduce(at::Tensor tensor, ReduceOp op);
  // `output` may be this rank's slice of `input`.
  TensorWork reduce_scatter(at::Tensor input, at::Tensor output, ReduceOp op);
  // `input` may be this rank's slice of `output`.
  TensorWork all_gather(at::Tensor input, at::Tensor output);
  // Of any dtype.
  TensorWork broadcast(at::Tensor tensor, int root);

 private:
  bool needs_staging(const at::Tensor& tensor) const;

  std::shared_ptr<Communicator> communicator_;
};

// Error(kUnsupported) for a dtype that communicators do not know.
DType to_dtype(at::ScalarType type);
at::ScalarType to_scalar_type(DType dtype);

}  // namespace deepscale
