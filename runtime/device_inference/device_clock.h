// When the work that was given to a device's streams is done, in the host's time.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <chrono>
#include <optional>

namespace deepscale {

// The stream on which this thread's operators run, and one more for copies. The CPU has none, and works at
// once.
struct DeviceStreams {
  explicit DeviceStreams(c10::Device device);

  c10::Device device;
  std::optional<c10::Stream> compute, copies;
};

class DeviceClock {
 public:
  // Waits for what the device does. `is_on` false: marks are nothing, and all times are 0.
  DeviceClock(const DeviceStreams& streams, bool is_on);

  class Mark {
    friend class DeviceClock;
    std::optional<c10::Event> event_;
    std::chrono::nanoseconds host_{0};
  };
  // What was given to the stream before has been done.
  Mark mark(const std::optional<c10::Stream>& stream) const;
  // As steady_clock has it. Waits until it has come.
  std::chrono::nanoseconds time(const Mark& mark) const;

 private:
  bool is_on_;
  Mark start_;
};

}  // namespace deepscale
