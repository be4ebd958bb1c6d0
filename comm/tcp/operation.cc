#include "comm/tcp/operation.h"

namespace deepscale::tcp {

bool WorkState::is_done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

void WorkState::wait() {
  std::unique_lock lock(mutex_);
  done_changed_.wait(lock, [this] { return done_; });
  if (error_) throw *error_;
}

void WorkState::finish(std::optional<Error> error) {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    error_ = std::move(error);
  }
  done_changed_.notify_all();
}

Transfer& Operation::add_transfer(const Buffer& buffer) {
  auto transfer = std::make_unique<Transfer>();
  transfer->operation = this;
  transfer->header = header_;
  transfer->data = static_cast<std::byte*>(buffer.data);
  transfer->total = transfer->window = transfer->allowed = buffer.bytes();
  ++unfinished_parts_;
  return *transfers_.emplace_back(std::move(transfer));
}

}  // namespace deepscale::tcp
