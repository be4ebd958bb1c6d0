// The failure that counts of work that goes on after it in name only.
#pragma once

#include <exception>
#include <functional>

namespace deepscale {

// For work that is called where nothing may be thrown (operators, destructors), or amid collectives that
// every rank has to take part in. Not for threads at once.
class FirstFailure {
 public:
  // `tell` hears of the failure when it happens, from attempt().
  explicit FirstFailure(std::function<void(const std::exception&)> tell = {});

  // Does nothing after a failure. What is thrown is kept.
  void attempt(const std::function<void()>& action);
  bool has_happened() const { return failure_ != nullptr; }
  // Throws what was kept, as often as it is called; does nothing without a failure.
  void rethrow() const;

 private:
  std::function<void(const std::exception&)> tell_;
  std::exception_ptr failure_;
};

}  // namespace deepscale
