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
  if (group_is_open_) return keep_back(header, after, {}, std::move(calls));
  const auto operation =
      std::make_shared<DeviceOperation>(shared_from_this(), header, Deadline::after(options_.timeout));
  try {
    operation->begin_.record(after);
    const std::lock_guard lock(call_mutex_);
    start_kept_back();
    start(operation, calls);
  } catch (const Error& error) {
    fail(error);
  }
  enter_flight(operation);
  return Work(operation);
}

Work DeviceQueue::submit_message(const MessageHeader& header, Stream after, const Route& route, Calls calls) {
  return keep_back(header, after, route, std::move(calls));
}

Work DeviceQueue::keep_back(const MessageHeader& header, Stream after, const Route& route, Calls calls) {
  const auto operation =
      std::make_shared<DeviceOperation>(shared_from_this(), header, Deadline::after(options_.timeout));
  try {
    operation->begin_.record(after);
    const std::lock_guard lock(call_mutex_);
    kept_back_.push_back({operation, std::move(calls), route});
    watches_messages_ = true;
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
  if (!watches_messages_) return;
  try {
    const std::lock_guard lock(call_mutex_);
    if (!group_is_open_) start_kept_back();
  } catch (const Error& error) {
    fail(error);
  }
}

void DeviceQueue::open_group() {
  start_messages();
  const std::lock_guard lock(call_mutex_);
  group_is_open_ = true;
}

void DeviceQueue::close_group() {
  {
    const std::lock_guard lock(call_mutex_);
    group_is_open_ = false;
  }
  start_messages();
}

// With call_mutex_, as start_as_group().
void DeviceQueue::start_kept_back() {
  start_as_group(std::exchange(kept_back_, {}));
}

void DeviceQueue::start_as_group(const std::vector<KeptBack>& operations) {
  if (operations.empty() || has_failed_) return;
  const cuda::Device::Current current(*options_.device);
  for (const KeptBack& each : operations) each.operation->begin_.hold_back(stream_.handle());
  const Api& api = *options_.api;
  Result result = api.group_start();
  for (const KeptBack& each : operations) {
    if (!is_error(result)) result = each.calls(api, comm_, stream_.handle());
  }
  const Result ended = api.group_end();
  settle(is_error(result) ? result : ended, operations.front().operation->deadline_);
  for (const KeptBack& each : operations) {
    each.operation->end_.record(stream_.handle());
    each.operation->is_started_ = true;
    if (each.route.peer >= 0) untold_.push_back(each);
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
    kept_back_.clear();
    untold_.clear();
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
  kept_back_.clear();  // operations hold their queue
  untold_.clear();
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
    changed_.wait_for(lock, watches_messages_ ? kMessagePeriod : kWatchPeriod);
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
    if (lock.owns_lock()) throw_asynchronous_error();
  }
  if (watches_messages_) meet_peers();
  if (const std::optional<Error> late = find_late_operation()) throw *late;
  if (options_.board != nullptr && Clock::now() - asked_peers_ >= kPeerPeriod) {
    asked_peers_ = Clock::now();
    if (const std::optional<std::string> why = options_.board->failure())
      throw Error(ErrorCode::kPeerLost, *why);
  }
}

// A message that has started and not ended waits for its peer, which may keep its end back.
void DeviceQueue::meet_peers() {
  std::vector<KeptBack> started;
  std::vector<KeptBack> waiting;
  {
    const std::unique_lock lock(call_mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;  // the next time, as in look_after_flight()
    started = std::exchange(untold_, {});
    if (!group_is_open_) waiting = kept_back_;
    watches_messages_ = !kept_back_.empty();
  }
  if (options_.board == nullptr) return;
  for (const auto& [operation, calls, route] : started) {
    if (!has_ended_well(*operation)) options_.board->tell_started(route, operation->header_.number);
  }
  std::set<const DeviceOperation*> wanted;
  for (const auto& [operation, calls, route] : waiting) {
    if (options_.board->has_peer_started(route, operation->header_.number)) wanted.insert(operation.get());
  }
  if (!wanted.empty()) start_these(wanted);
}

// Those among them that are still kept back.
void DeviceQueue::start_these(const std::set<const DeviceOperation*>& wanted) {
  const std::unique_lock lock(call_mutex_, std::try_to_lock);
  if (!lock.owns_lock() || group_is_open_) return;
  const auto first = std::stable_partition(kept_back_.begin(), kept_back_.end(), [&](const KeptBack& each) {
    return !wanted.contains(each.operation.get());
  });
  const std::vector<KeptBack> operations(first, kept_back_.end());
  kept_back_.erase(first, kept_back_.end());
  start_as_group(operations);
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
