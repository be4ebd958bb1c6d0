#include "comm/nccl/device_operation.h"

namespace deepscale::nccl {

DeviceOperation::DeviceOperation(std::shared_ptr<DeviceQueue> queue, const MessageHeader& header,
                                 Deadline deadline)
    : queue_(std::move(queue)),
      header_(header),
      deadline_(deadline),
      begin_(queue_->device()),
      end_(queue_->device()) {}

bool DeviceOperation::is_done() const {
  return queue_->is_done(*this);
}

void DeviceOperation::wait() {
  queue_->wait(*this);
}

void DeviceOperation::wait_on(void* stream) {
  queue_->wait_on(*this, stream);
}

}  // namespace deepscale::nccl
