#include "comm/nccl/device_queue.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>

#include "comm/nccl/device_operation.h"

namespace deepscale::nccl {

namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto kWatchPeriod = milliseconds(20);
constexpr auto kMessagePeriod = milliseconds(1);
constexpr auto kPeerPeriod = seconds(1);
constexpr auto kLeavePatience = seconds(10);

// Between two looks at something that ends soon, or late.
class Pause {
 public:
  void rest() {
    if (++rests_ < kShortRests) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(microseconds(50));
    }
  }

 private:
  static constexpr int kShortRests = 200;
  int rests_ = 0;
};

bool is_error(Result result) {
  return result != kSuccess && result != kInProgress;
}

}  // namespace

DeviceQueue::DeviceQueue(Options options) : options_(std::move(options)), stream_(options_.device) {
  const cuda::Device::Current current(*options_.device);
  Config config;
  try {
    settle(options_.api->comm_init_rank_config(&comm_, options_.size, options_.id, options_.rank, &config),
           Deadline::after(options_.timeout));
  } catch (const Error& error) {
    abort_comm();
    throw Error(error.code(), fmt::format("rank {} of {}: joining the other ranks through NCCL {}: {}",
                                          options_.rank, options_.size, options_.api->version, error.what()));
  }
}

DeviceQueue::~DeviceQueue() {
  close();
}

Work DeviceQueue::submit(const MessageHeader& header, Stream after, Calls calls) {
  const auto operation =
      std::make_shared<DeviceOperation>(shared_from_this(), header, Deadline::after(options_.timeout));
  try {
    operation->begin_.record(after);
    const std::lock_guard lock(call_mutex_);
    start_messages_locked();
    start(operation, calls);
  } catch (const Error& error) {
    fail(error);
  }
  enter_flight(operation);
  return Work(operation);
}

Work DeviceQueue::submit_message(const MessageHeader& header, Stream after, Calls calls) {
  const auto operation =
      std::make_shared<DeviceOperation>(shared_from_this(), header, Deadline::after(options_.timeout));
  try {
    operation->begin_.record(after);
    const std::lock_guard lock(call_mutex_);
    messages_.push_back({operation, std::move(calls)});
    has_messages_ = true;
  } catch (const Error& error) {
    fail(error);
  }
  enter_flight(operation);
  return Work(operation);
}

void DeviceQueue::start(const std::shared_ptr<DeviceOperation>& operation, const Calls& calls) {
  if (has_failed_) return;
  const cuda::Device::Current current(*options_.device);
  operation->begin_.hold_back(stream_.handle());
  settle(calls(*options_.api, comm_, stream_.handle()), operation->deadline_);
  operation->end_.record(stream_.handle());
  operation->is_started_ = true;
}

void DeviceQueue::start_messages() {
  if (!has_messages_) return;
  try {
    const std::lock_guard lock(call_mutex_);
    start_messages_locked();
  } catch (const Error& error) {
    fail(error);
  }
}

void DeviceQueue::start_messages_locked() {
  const std::vector<Message> messages = std::exchange(messages_, {});
  has_messages_ = false;
  if (messages.empty() || has_failed_) return;
  const cuda::Device::Current current(*options_.device);
  for (const Message& message : messages) message.operation->begin_.hold_back(stream_.handle());
  const Api& api = *options_.api;
  Result result = api.group_start();
  for (const Message& message : messages) {
    if (!is_error(result)) result = message.calls(api, comm_, stream_.handle());
  }
  const Result ended = api.group_end();
  settle(is_error(result) ? result : ended, messages.front().operation->deadline_);
  for (const Message& message : messages) {
    message.operation->end_.record(stream_.handle());
    message.operation->is_started_ = true;
  }
}

// Until the call that gave `result` has done its part on the host.
void DeviceQueue::settle(Result result, Deadline deadline) {
  for (Pause pause; result == kInProgress; pause.rest()) {
    if (has_failed_) throw cause();
    if (deadline.has_passed()) {
      throw Error(ErrorCode::kTimeout,
                  fmt::format("did not finish within {} s: NCCL is still connecting the ranks",
                              std::chrono::duration<double>(options_.timeout).count()));
    }
    const Result asked = options_.api->comm_get_async_error(comm_, &result);
    if (asked != kSuccess) result = asked;
  }
  if (result != kSuccess) throw to_error(*options_.api, result, comm_);
}

void DeviceQueue::enter_flight(const std::shared_ptr<DeviceOperation>& operation) {
  const std::lock_guard lock(state_mutex_);
  if (cause_) return end_with(*operation, *cause_);
  in_flight_.push_back(operation);
  if (!watcher_.joinable() && !ending_) watcher_ = std::thread([this] { watch(); });
  changed_.notify_one();
}

void DeviceQueue::end_with(DeviceOperation& operation, const Error& cause) {
  operation.error_.emplace(cause.code(), fmt::format("rank {} of {}: {}: {}", options_.rank, options_.size,
                                                     describe(operation.header_), cause.what()));
}

bool DeviceQueue::has_ended_well(const DeviceOperation& operation) noexcept {
  try {
    return operation.is_started_ && operation.end_.is_done();
  } catch (const Error&) {
    return false;  // the GPU itself has failed
  }
}

bool DeviceQueue::is_done(const DeviceOperation& operation) {
  if (!operation.is_started_) start_messages();
  {
    const std::lock_guard lock(state_mutex_);
    if (operation.error_) return true;
  }
  return operation.is_started_ && operation.end_.is_done();
}

void DeviceQueue::wait(DeviceOperation& operation) {
  for (Pause pause; !is_done(operation); pause.rest()) {
  }
  try {
    const std::lock_guard lock(call_mutex_);
    throw_asynchronous_error();  // NCCL ends what it has to give up
  } catch (const Error& error) {
    fail(error);
  }
  const std::lock_guard lock(state_mutex_);
  if (operation.error_) throw *operation.error_;
}

void DeviceQueue::wait_on(DeviceOperation& operation, Stream stream) {
  if (!operation.is_started_) start_messages();
  {
    const std::lock_guard lock(state_mutex_);
    if (operation.error_) throw *operation.error_;
  }
  operation.end_.hold_back(stream);
}

Error DeviceQueue::cause() {
  const std::lock_guard lock(state_mutex_);
  return *cause_;
}

void DeviceQueue::fail(const Error& cause) {
  {
    const std::lock_guard lock(state_mutex_);
    if (cause_) return;
    cause_ = cause;
    // What the GPU has done already stays done.
    for (const auto& operation : in_flight_) {
      if (!has_ended_well(*operation)) end_with(*operation, cause);
    }
    in_flight_.clear();
    has_failed_ = true;
  }
  {
    const std::lock_guard lock(call_mutex_);
    messages_.clear();
    abort_comm();
  }
  if (options_.on_failure) options_.on_failure(cause);
}

// With call_mutex_, or before anybody else knows the queue.
void DeviceQueue::abort_comm() {
  if (comm_ == nullptr) return;
  options_.api->comm_abort(std::exchange(comm_, nullptr));
}

void DeviceQueue::throw_asynchronous_error() {
  if (comm_ == nullptr) return;
  Result result = kSuccess;
  const Result asked = options_.api->comm_get_async_error(comm_, &result);
  if (is_error(asked)) result = asked;
  if (is_error(result)) throw to_error(*options_.api, result, comm_);
}

void DeviceQueue::close() {
  bool is_idle = true;
  {
    const std::lock_guard lock(state_mutex_);
    for (const auto& operation : in_flight_) is_idle = is_idle && has_ended_well(*operation);
  }
  if (!is_idle) fail(Error(ErrorCode::kAborted, "the communicator was destroyed with operations in flight"));
  {
    const std::lock_guard lock(state_mutex_);
    ending_ = true;
    in_flight_.clear();
    changed_.notify_one();
  }
  if (watcher_.joinable()) watcher_.join();
  leave();
}

void DeviceQueue::leave() {
  const std::lock_guard lock(call_mutex_);
  if (comm_ == nullptr) return;
  try {
    const cuda::Device::Current current(*options_.device);
    settle(options_.api->comm_finalize(comm_), Deadline::after(kLeavePatience));
    options_.api->comm_destroy(std::exchange(comm_, nullptr));
  } catch (const Error&) {
    abort_comm();  // a peer that has gone does not hold this rank up
  }
}

void DeviceQueue::watch() {
  // NCCL gives a thread without a device the first one, and with it a context there.
  std::optional<cuda::Device::Current> current;
  try {
    current.emplace(*options_.device);
  } catch (const Error& error) {
    return fail(error);
  }
  std::unique_lock lock(state_mutex_);
  while (!ending_) {
    if (in_flight_.empty()) {
      changed_.wait(lock);
      continue;
    }
    changed_.wait_for(lock, has_messages_ ? kMessagePeriod : kWatchPeriod);
    lock.unlock();
    try {
      look_after_flight();
    } catch (const Error& error) {
      fail(error);
    } catch (const std::exception& error) {
      fail(Error(ErrorCode::kInternal, error.what()));
    }
    lock.lock();
  }
}

void DeviceQueue::look_after_flight() {
  {
    // Whoever is in a call into NCCL looks at errors and deadlines itself.
    const std::unique_lock lock(call_mutex_, std::try_to_lock);
    if (lock.owns_lock()) {
      start_messages_locked();
      throw_asynchronous_error();
    }
  }
  if (const std::optional<Error> late = find_late_operation()) throw *late;
  if (options_.peer_failure && Clock::now() - asked_peers_ >= kPeerPeriod) {
    asked_peers_ = Clock::now();
    if (const std::optional<std::string> why = options_.peer_failure())
      throw Error(ErrorCode::kPeerLost, *why);
  }
}

// Also forgets what has ended.
std::optional<Error> DeviceQueue::find_late_operation() {
  const std::lock_guard lock(state_mutex_);
  while (!in_flight_.empty()) {
    const DeviceOperation& oldest = *in_flight_.front();
    if (!oldest.is_started_ || !oldest.end_.is_done()) break;
    in_flight_.pop_front();
  }
  if (in_flight_.empty() || !in_flight_.front()->deadline_.has_passed()) return std::nullopt;
  const std::chrono::duration<double> timeout = options_.timeout;
  return Error(ErrorCode::kTimeout,
               fmt::format("{} did not finish within {} s: a rank did not call it, or has gone",
                           describe(in_flight_.front()->header_), timeout.count()));
}

}  // namespace deepscale::nccl
