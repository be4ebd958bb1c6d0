// The operations of one communicator as functions that block, run one after the other by a thread.
//
// submit() belongs to one thread at a time, stop() to any. The first operation that fails makes all later
// ones fail with the same cause. The destructor waits for what is in flight: whoever does not want to wait
// makes it fail first.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "comm/base/clock.h"
#include "comm/base/error.h"
#include "comm/communicator.h"

namespace deepscale::hierarchical {

class StepQueue {
 public:
  // `prefix` begins every error. `break_all` makes a running operation end soon with an error; called once,
  // from the thread that found the cause.
  StepQueue(std::string prefix, Clock::duration timeout, std::function<void(const std::string&)> break_all);
  ~StepQueue();
  StepQueue(const StepQueue&) = delete;
  StepQueue& operator=(const StepQueue&) = delete;

  // `name` tells the operation in errors.
  Work submit(std::string name, std::function<void()> steps);
  // Fails everything in flight and later, unless it has failed before.
  void fail(ErrorCode code, const std::string& why);
  bool is_idle() const;

 private:
  struct Operation;

  void run();
  void run_next(Operation& operation);
  std::optional<Error> cause() const;

  const std::string prefix_;
  const Clock::duration timeout_;
  const std::function<void(const std::string&)> break_all_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Operation>> queue_;  // the first one runs
  std::optional<Error> cause_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace deepscale::hierarchical
