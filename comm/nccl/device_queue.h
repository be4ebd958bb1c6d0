// The operations of one rank on its GPU: an NCCL communicator, the stream that they run on in the order of
// their calls, and a thread that watches over what is in flight.
//
//   submit()          starts the operation: it waits on the GPU for the caller's stream, never on the host
//   submit_message()  keeps a send or receive back for the ones that follow, since two ranks that send to
//                     each other first would wait for ever: NCCL runs a group of them at once. They start
//                     with the next operation, with a wait, or after a millisecond
//   the watcher       ends everything when NCCL reports an error, a deadline passes, or a peer gave up
//
// The first failure aborts the NCCL communicator, which ends what waits on the GPU, and is the error of
// everything in flight and everything later. submit() and submit_message() belong to one thread at a time,
// the rest to any. submit() blocks while NCCL connects the ranks, in the first operations, at most until the
// timeout. A queue lives as long as the last Work that came from it; close() ends its operations.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/message_header.h"
#include "comm/nccl/cuda_driver.h"
#include "comm/nccl/nccl_api.h"

namespace deepscale::nccl {

class DeviceOperation;

class DeviceQueue : public std::enable_shared_from_this<DeviceQueue> {
 public:
  struct Options {
    std::shared_ptr<const cuda::Device> device;
    std::shared_ptr<const Api> api;
    int rank = 0;
    int size = 1;
    UniqueId id;
    Clock::duration timeout{};
    // Why a peer gave up; empty while none did. Called about once a second while something is in flight.
    std::function<std::optional<std::string>()> peer_failure;
    std::function<void(const Error& cause)> on_failure;  // once, by whoever found it
  };
  // Calls NCCL functions, and returns the first result that is neither kSuccess nor kInProgress.
  using Calls = std::function<Result(const Api& api, Comm comm, Stream stream)>;

  // Joins the other ranks; blocks until all have, at most until the timeout.
  explicit DeviceQueue(Options options);
  ~DeviceQueue();
  DeviceQueue(const DeviceQueue&) = delete;
  DeviceQueue& operator=(const DeviceQueue&) = delete;

  const std::shared_ptr<const cuda::Device>& device() const { return options_.device; }

  Work submit(const MessageHeader& header, Stream after, Calls calls);
  Work submit_message(const MessageHeader& header, Stream after, Calls calls);
  void start_messages();

  void fail(const Error& cause);
  // Fails what is in flight, and leaves the other ranks: in order where nothing failed.
  void close();

 private:
  friend class DeviceOperation;
  struct Message {
    std::shared_ptr<DeviceOperation> operation;
    Calls calls;
  };

  // For operations.
  bool is_done(const DeviceOperation& operation);
  void wait(DeviceOperation& operation);
  void wait_on(DeviceOperation& operation, Stream stream);

  void start(const std::shared_ptr<DeviceOperation>& operation, const Calls& calls);
  void start_messages_locked();
  void settle(Result result, Deadline deadline);
  void enter_flight(const std::shared_ptr<DeviceOperation>& operation);
  void end_with(DeviceOperation& operation, const Error& cause);
  static bool has_ended_well(const DeviceOperation& operation) noexcept;
  Error cause();
  void throw_asynchronous_error();
  void abort_comm();
  void leave();
  void watch();
  void look_after_flight();
  std::optional<Error> find_late_operation();

  const Options options_;
  const cuda::Stream stream_;
  std::atomic<bool> has_failed_{false};

  std::mutex call_mutex_;  // one call into NCCL at a time; taken before state_mutex_
  Comm comm_ = nullptr;
  std::vector<Message> messages_;
  std::atomic<bool> has_messages_{false};

  std::mutex state_mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<DeviceOperation>> in_flight_;  // in the order of the stream
  std::optional<Error> cause_;
  bool ending_ = false;
  std::thread watcher_;
  Clock::time_point asked_peers_ = Clock::now();  // of the watcher
};

}  // namespace deepscale::nccl
