// One operation on the GPU. DeviceQueue guards its fields.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "comm/message_header.h"
#include "comm/nccl/cuda_driver.h"
#include "comm/nccl/device_queue.h"

namespace deepscale::nccl {

class DeviceOperation final : public Work::State {
 public:
  DeviceOperation(std::shared_ptr<DeviceQueue> queue, const MessageHeader& header, Deadline deadline);

  bool is_done() const override;
  void wait() override;
  void wait_on(void* stream) override;

 private:
  friend class DeviceQueue;

  const std::shared_ptr<DeviceQueue> queue_;
  const MessageHeader header_;
  const Deadline deadline_;
  cuda::Event begin_;                    // of the caller's stream when it called
  cuda::Event end_;                      // of the queue's stream behind the operation
  std::atomic<bool> is_started_{false};  // end_ is recorded
  std::optional<Error> error_;           // with the queue's state_mutex_
};

}  // namespace deepscale::nccl
