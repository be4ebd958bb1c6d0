// Something that happens once, for which another thread waits.
//
// Not std::atomic's wait(): where there is no futex (MinGW-w64), libstdc++ 12 looks at the value before it
// takes the lock under which it sleeps, so a notification between the two is lost, and the thread sleeps for
// good.
#pragma once

#include <condition_variable>
#include <mutex>

namespace deepscale::testing {

class Event {
 public:
  void happen() {
    const std::lock_guard lock(mutex_);
    has_happened_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return has_happened_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_happened_ = false;
};

}  // namespace deepscale::testing
