#include "runtime/device_inference/device_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace deepscale {
namespace {

std::chrono::nanoseconds now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

}  // namespace

DeviceStreams::DeviceStreams(c10::Device on) : device(on) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  compute = guard.getStream(device);
  copies = guard.getStreamFromGlobalPool(device);
}

DeviceClock::DeviceClock(const DeviceStreams& streams, bool is_on) : is_on_(is_on) {
  if (!is_on || !streams.compute) return;
  start_ = mark(streams.compute);
  start_.event_->synchronize();
  start_.host_ = now();
}

DeviceClock::Mark DeviceClock::mark(const std::optional<c10::Stream>& stream) const {
  Mark mark;
  if (!is_on_) return mark;
  if (stream) {
    mark.event_.emplace(stream->device_type(), c10::EventFlag::BACKEND_DEFAULT);
    mark.event_->record(*stream);
  } else {
    mark.host_ = now();
  }
  return mark;
}

std::chrono::nanoseconds DeviceClock::time(const Mark& mark) const {
  if (!mark.event_) return mark.host_;
  mark.event_->synchronize();
  const std::chrono::duration<double, std::milli> since_start(start_.event_->elapsedTime(*mark.event_));
  return start_.host_ + std::chrono::duration_cast<std::chrono::nanoseconds>(since_start);
}

}  // namespace deepscale
