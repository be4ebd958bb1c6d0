#include "comm/shm/operation_queue.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>

namespace deepscale::shm {

bool Operation::is_done() const {
  if (done_.load(std::memory_order_acquire)) return true;
  queue_.drive_in_background();  // who only asks wants it to go on all the same
  return false;
}

void Operation::wait() {
  if (!done_.load(std::memory_order_acquire)) queue_.wait(*this);
  if (error_) throw *error_;
}

OperationQueue::~OperationQueue() {
  {
    std::unique_lock lock(mutex_);
    if (!in_flight_.empty()) {
      lock.unlock();
      host_.fail(ErrorCode::kAborted, "the communicator was destroyed with operations in flight");
      lock.lock();
    }
    ending_ = true;
    background_.notify_all();
    progress_.wait(lock, [this] { return !driving_; });
  }
  if (thread_.joinable()) thread_.join();
  if (!in_flight_.empty()) fail_all();
}

Work OperationQueue::submit(OperationRequest request) {
  auto operation = std::make_shared<Operation>(*this, std::move(request), Deadline::after(host_.timeout()));
  std::unique_lock lock(mutex_);
  in_flight_.push_back(operation);
  if (driving_ || has_submissions_.load()) {
    submissions_.push_back(operation);
    has_submissions_.store(true);
    wake_background();
    lock.unlock();
    host_.doorbell(host_.rank(), lane_).ring_if_asleep();
    return Work(operation);
  }
  driving_ = true;
  lock.unlock();
  const bool needs_thread = !start_alone(*operation);
  lock.lock();
  if (needs_thread) background_is_wanted_ = true;
  stop_driving();
  return Work(operation);
}

void OperationQueue::finish(Operation& operation) {
  const std::lock_guard lock(mutex_);
  operation.done_.store(true, std::memory_order_release);
  if (in_flight_.front().get() == &operation) {
    in_flight_.pop_front();
  } else {
    std::erase_if(in_flight_, [&](const auto& other) { return other.get() == &operation; });
  }
  progress_.notify_all();
}

void OperationQueue::wait(const Operation& operation) {
  waiter_.add_callers(1);
  std::unique_lock lock(mutex_);
  while (!operation.done_.load(std::memory_order_acquire)) {
    if (driving_) {
      progress_.wait(lock);
      continue;
    }
    driving_ = true;
    lock.unlock();
    drive(&operation);
    lock.lock();
    if (!in_flight_.empty()) background_is_wanted_ = true;
    stop_driving();
  }
  lock.unlock();
  waiter_.add_callers(-1);
}

void OperationQueue::drive_in_background() {
  const std::lock_guard lock(mutex_);
  if (!in_flight_.empty()) wake_background();
}

bool OperationQueue::start_alone(Operation& operation) {
  try {
    if (host_.has_failed()) throw host_.cause();
    return worker_.start(operation);
  } catch (const Error& error) {
    host_.fail(error.code(), error.what());
    fail_all();
    return true;
  }
}

void OperationQueue::drive(const Operation* target) {
  try {
    while (!is_through(target)) {
      if (host_.has_failed()) throw host_.cause();
      for (const auto& operation : take_submissions()) worker_.start(*operation);
      if (!is_through(target)) worker_.advance(has_submissions_);
    }
  } catch (const Error& error) {
    host_.fail(error.code(), error.what());
    fail_all();
  } catch (const std::exception& error) {
    host_.fail(ErrorCode::kInternal, error.what());
    fail_all();
  }
}

bool OperationQueue::is_through(const Operation* target) {
  if (target != nullptr) return target->done_.load(std::memory_order_acquire);
  const std::lock_guard lock(mutex_);
  return in_flight_.empty();
}

std::vector<std::shared_ptr<Operation>> OperationQueue::take_submissions() {
  if (!has_submissions_.load()) return {};
  const std::lock_guard lock(mutex_);
  has_submissions_.store(false);
  return std::exchange(submissions_, {});
}

void OperationQueue::fail_all() {
  const Error cause = host_.cause();
  worker_.forget_all();
  const std::lock_guard lock(mutex_);
  for (const auto& operation : in_flight_) {
    operation->error_.emplace(cause.code(), fmt::format("rank {} of {}: {}: {}", host_.rank(), host_.size(),
                                                        describe(operation->header()), cause.what()));
    operation->done_.store(true, std::memory_order_release);
  }
  in_flight_.clear();
  submissions_.clear();
  has_submissions_.store(false);
  progress_.notify_all();
}

void OperationQueue::stop_driving() {
  driving_ = false;
  progress_.notify_all();
  if (background_is_wanted_ && !in_flight_.empty()) wake_background();
}

void OperationQueue::wake_background() {
  background_is_wanted_ = true;
  if (!thread_.joinable() && !ending_) thread_ = std::thread([this] { run_background(); });
  background_.notify_one();
}

void OperationQueue::run_background() {
  std::unique_lock lock(mutex_);
  for (;;) {
    background_.wait(lock, [this] { return ending_ || (background_is_wanted_ && !driving_); });
    if (ending_) return;
    background_is_wanted_ = false;
    driving_ = true;
    lock.unlock();
    drive(nullptr);
    lock.lock();
    stop_driving();
  }
}

}  // namespace deepscale::shm
