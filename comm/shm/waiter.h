// How the thread that drives a lane waits for its peers: it looks, spins for a moment where every rank has a
// processor of its own, then sleeps on its doorbell and wakes now and then to see whether waiting still makes
// sense.
//
// One thread at a time waits; set_callers() may come from any.
#pragma once

#include <atomic>
#include <functional>
#include <optional>

#include "comm/base/clock.h"
#include "comm/base/error.h"
#include "comm/shm/host.h"
#include "comm/shm/operation.h"

namespace deepscale::shm {

class Waiter {
 public:
  Waiter(Host& host, Lane lane) : host_(host), lane_(lane) {}

  // Returns when `ready()` is true, which `peer` makes it, or without one anybody. While it is not, asks
  // `hopeless()` at least every kLookInterval, and throws the Error that it returns. Both are looked at in
  // that order, so that what a peer did before it went away counts.
  template <typename Ready, typename Hopeless>
  void until(std::optional<int> peer, const Ready& ready, const Hopeless& hopeless) {
    if (ready()) return;
    if (may_spin() && spin(ready)) return;
    for (;;) {
      Doorbell& doorbell = host_.doorbell(host_.rank(), lane_);
      doorbell.announce_sleep(peer);
      if (!ready()) {
        const std::optional<Error> failure = hopeless();
        if (!ready()) {
          if (failure) {
            doorbell.stay_awake();
            throw *failure;
          }
          doorbell.sleep(kLookInterval);
        }
      }
      doorbell.stay_awake();
      if (ready()) return;
    }
  }

  // Why `operation` cannot get what it needs from `peer`; nothing while it may still come.
  std::optional<Error> why_hopeless(const Operation& operation, int peer);

  // How many callers wait for an operation of this lane. Without any, the thread that drives it does so in
  // the background, where spinning would take the processor from whoever computes.
  void add_callers(int change) { callers_.fetch_add(change, std::memory_order_relaxed); }

  static constexpr auto kLookInterval = std::chrono::milliseconds(10);

 private:
  static constexpr auto kSpinTime = std::chrono::microseconds(50);
  static void pause();

  bool may_spin() const {
    return host_.has_processor_for_every_rank() && callers_.load(std::memory_order_relaxed) > 0;
  }
  template <typename Ready>
  bool spin(const Ready& ready) {
    const auto end = Clock::now() + kSpinTime;
    do {
      for (int look = 0; look < 64; ++look) {
        if (ready()) return true;
        pause();
      }
    } while (Clock::now() < end);
    return false;
  }

  Host& host_;
  const Lane lane_;
  std::atomic<int> callers_{0};
};

}  // namespace deepscale::shm
