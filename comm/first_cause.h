// Why a communicator of several parts broke: the first failure of any of them, which ends all parts and is
// the error of everything in flight and later.
//
// Any thread may call anything. Outlives the communicator together with the Works that refer to it.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "comm/base/error.h"

namespace deepscale {

class FirstCause {
 public:
  // `break_all` makes whatever runs in any part end soon with an error. Called once at most, not after
  // disarm().
  explicit FirstCause(std::function<void(const std::string&)> break_all) : break_all_(std::move(break_all)) {}

  void set(ErrorCode code, const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (cause_) return;
    cause_.emplace(code, why);
    if (break_all_) break_all_(why);
  }
  std::optional<Error> get() const {
    const std::lock_guard lock(mutex_);
    return cause_;
  }
  // The parts are about to end.
  void disarm() {
    const std::lock_guard lock(mutex_);
    break_all_ = nullptr;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<Error> cause_;
  std::function<void(const std::string&)> break_all_;
};

}  // namespace deepscale
