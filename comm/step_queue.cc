#include "comm/step_queue.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace deepscale {

namespace {

constexpr auto kLongestTimeout = std::chrono::hours(24 * 365);  // now + timeout must not overflow

Error with_prefix(const std::string& where, const Error& error) {
  return Error(error.code(), fmt::format("{}: {}", where, error.what()));
}

}  // namespace

// What the caller's Work points to.
struct StepQueue::Operation final : Work::State {
  Operation(StepQueue& owner, std::string text, std::function<void()> body, Deadline latest)
      : queue(owner), name(std::move(text)), steps(std::move(body)), deadline(latest) {}

  bool is_done() const override {
    const std::lock_guard lock(mutex);
    return done;
  }
  // The steps have the timeout each; all of them together have it here.
  void wait() override {
    std::unique_lock lock(mutex);
    if (!changed.wait_until(lock, deadline.time(), [this] { return done; })) {
      lock.unlock();
      const double seconds = std::chrono::duration<double>(queue.timeout_).count();
      queue.cause_->set(ErrorCode::kTimeout, fmt::format("{} did not finish within {:g} s", name, seconds));
      lock.lock();
      changed.wait(lock, [this] { return done; });
    }
    if (error) throw *error;
  }
  void finish(std::optional<Error> failure) {
    const std::lock_guard lock(mutex);
    done = true;
    error = std::move(failure);
    changed.notify_all();
  }

  StepQueue& queue;  // lives at least until the operation is done
  const std::string name;
  const std::function<void()> steps;
  const Deadline deadline;
  mutable std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::optional<Error> error;
};

struct StepQueue::Watched final : Work::State {
  Watched(std::string text, Work work, std::shared_ptr<FirstCause> first)
      : where(std::move(text)), inner(std::move(work)), cause(std::move(first)) {}

  bool is_done() const override { return inner.is_done(); }
  void wait() override {
    try {
      inner.wait();
    } catch (const Error& error) {
      cause->set(error.code(), error.what());
      throw with_prefix(where, *cause->get());
    }
  }

  const std::string where;
  Work inner;
  const std::shared_ptr<FirstCause> cause;
};

StepQueue::StepQueue(std::string prefix, Clock::duration timeout, std::shared_ptr<FirstCause> cause)
    : prefix_(std::move(prefix)),
      timeout_(std::min<Clock::duration>(timeout, kLongestTimeout)),
      cause_(std::move(cause)),
      thread_([this] { run(); }) {}

StepQueue::~StepQueue() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

Work StepQueue::submit(std::string name, std::function<void()> steps) {
  const auto operation =
      std::make_shared<Operation>(*this, std::move(name), std::move(steps), Deadline::after(timeout_));
  const std::lock_guard lock(mutex_);
  queue_.push_back(operation);
  changed_.notify_all();
  return Work(operation);
}

Work StepQueue::watch(std::string name, Work work) const {
  return Work(std::make_shared<Watched>(fmt::format("{}: {}", prefix_, name), std::move(work), cause_));
}

bool StepQueue::is_idle() const {
  const std::lock_guard lock(mutex_);
  return queue_.empty();
}

void StepQueue::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const auto operation = queue_.front();
    lock.unlock();
    run_next(*operation);
    lock.lock();
  }
}

void StepQueue::run_next(Operation& operation) {
  if (!cause_->get()) {
    try {
      operation.steps();
    } catch (const Error& error) {
      cause_->set(error.code(), error.what());
    } catch (const std::exception& error) {
      cause_->set(ErrorCode::kInternal, error.what());
    }
  }
  std::optional<Error> failure;
  if (const auto why = cause_->get()) {
    failure.emplace(with_prefix(fmt::format("{}: {}", prefix_, operation.name), *why));
  }
  {
    const std::lock_guard lock(mutex_);
    queue_.pop_front();
  }
  operation.finish(std::move(failure));
}

}  // namespace deepscale
