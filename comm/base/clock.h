// Steady time and deadlines. Every blocking call of DeepScale takes a Deadline.
#pragma once

#include <chrono>

namespace deepscale {

using Clock = std::chrono::steady_clock;

// A point in time after which waiting is pointless. A value; any thread may copy and read it.
class Deadline {
 public:
  static Deadline after(Clock::duration wait) { return Deadline(Clock::now() + wait); }
  static Deadline at(Clock::time_point time) { return Deadline(time); }
  static Deadline never() { return Deadline(Clock::time_point::max()); }

  Clock::time_point time() const { return time_; }
  bool is_never() const { return time_ == Clock::time_point::max(); }
  bool has_passed() const { return !is_never() && Clock::now() >= time_; }
  // Time left, never negative; Clock::duration::max() when there is no limit.
  Clock::duration remaining() const {
    if (is_never()) return Clock::duration::max();
    const auto left = time_ - Clock::now();
    return left > Clock::duration::zero() ? left : Clock::duration::zero();
  }

 private:
  explicit Deadline(Clock::time_point time) : time_(time) {}
  Clock::time_point time_;
};

}  // namespace deepscale
