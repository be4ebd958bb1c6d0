#include "runtime/engine/first_failure.h"

#include <utility>

namespace deepscale {

FirstFailure::FirstFailure(std::function<void(const std::exception&)> tell) : tell_(std::move(tell)) {}

void FirstFailure::attempt(const std::function<void()>& action) {
  if (failure_) return;
  try {
    action();
  } catch (const std::exception& error) {
    failure_ = std::current_exception();
    if (tell_) tell_(error);
  }
}

void FirstFailure::rethrow() const {
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace deepscale
