// The operations of one communicator as functions that block, run one after the other by a thread.
//
// submit() belongs to one thread at a time. The first operation that fails makes all later ones fail with the
// same cause. The destructor waits for what is in flight: whoever does not want to wait makes it fail first.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "comm/base/clock.h"
#include "comm/communicator.h"
#include "comm/first_cause.h"

namespace deepscale {

class StepQueue {
 public:
  // `prefix` begins every error. When a failure is set on `cause`, what runs is to end soon.
  StepQueue(std::string prefix, Clock::duration timeout, std::shared_ptr<FirstCause> cause);
  ~StepQueue();
  StepQueue(const StepQueue&) = delete;
  StepQueue& operator=(const StepQueue&) = delete;

  // `name` tells the operation in errors.
  Work submit(std::string name, std::function<void()> steps);
  // Adds to a Work that goes on without the queue what belongs to one: the first cause, and to be one.
  Work watch(std::string name, Work work) const;
  bool is_idle() const;

 private:
  struct Operation;
  struct Watched;

  void run();
  void run_next(Operation& operation);

  const std::string prefix_;
  const Clock::duration timeout_;
  const std::shared_ptr<FirstCause> cause_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Operation>> queue_;  // the first one runs
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace deepscale
