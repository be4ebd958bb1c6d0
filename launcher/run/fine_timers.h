// While one is there, timers of this process fire within a millisecond of their time. Windows lets them be
// late by up to 15.6 ms otherwise, which is longer than it takes to start a rank; Linux needs nothing.
// One implementation per platform. Any thread.
#pragma once

namespace deepscale {

class FineTimers {
 public:
  FineTimers();
  ~FineTimers();
  FineTimers(const FineTimers&) = delete;
  FineTimers& operator=(const FineTimers&) = delete;
};

}  // namespace deepscale
