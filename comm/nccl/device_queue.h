// The operations of one rank on its GPU: an NCCL communicator, the stream that they run on in the order of
// their calls, and a thread that watches over what is in flight.
//
//   submit()          starts the operation: it waits on the GPU for the caller's stream, never on the host
//   submit_message()  keeps a send or receive back for the ones that follow, since two ranks that send to
//                     each other first would wait for ever: NCCL runs a group of them at once. They start
//                     with the next operation or a wait, or when the peer has started its end
//   open_group()      from here to close_group() submit() keeps its operations back, which then start as one
//                     group: NCCL gives them to the GPU together
//   the watcher       tells the peers which messages wait for them, and starts those that they wait for; ends
//                     everything when NCCL reports an error, a deadline passes, or a peer gave up
//
// The first failure aborts the NCCL communicator, which ends what waits on the GPU, and is the error of
// everything in flight and everything later. What submits and groups belongs to one thread at a time, the
// rest to any. submit() blocks while NCCL connects the ranks, in the first operations, at most until the
// timeout. A queue lives as long as the last Work that came from it; close() ends its operations.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "comm/message_header.h"
#include "comm/nccl/cuda_driver.h"
#include "comm/nccl/nccl_api.h"
#include "comm/nccl/peer_board.h"

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
    std::shared_ptr<PeerBoard> board;                    // null: the ranks tell each other nothing
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
  Work submit_message(const MessageHeader& header, Stream after, const Route& route, Calls calls);
  void start_messages();
  void open_group();
  void close_group();

  void fail(const Error& cause);
  // Fails what is in flight, and leaves the other ranks: in order where nothing failed.
  void close();

 private:
  friend class DeviceOperation;
  struct KeptBack {
    std::shared_ptr<DeviceOperation> operation;
    Calls calls;
    Route route;  // without a peer: a collective
  };

  // For operations.
  bool is_done(const DeviceOperation& operation);
  void wait(DeviceOperation& operation);
  void wait_on(DeviceOperation& operation, Stream stream);

  Work keep_back(const MessageHeader& header, Stream after, const Route& route, Calls calls);
  void start(const std::shared_ptr<DeviceOperation>& operation, const Calls& calls);
  void start_kept_back();
  void start_as_group(const std::vector<KeptBack>& operations);
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
  void meet_peers();
  void start_these(const std::set<const DeviceOperation*>& wanted);
  std::optional<Error> find_late_operation();

  const Options options_;
  const cuda::Stream stream_;
  std::atomic<bool> has_failed_{false};

  std::mutex call_mutex_;  // one call into NCCL at a time; taken before state_mutex_
  Comm comm_ = nullptr;
  std::vector<KeptBack> kept_back_;
  std::vector<KeptBack> untold_;               // messages that have started, until the watcher has seen them
  std::atomic<bool> watches_messages_{false};  // one of the two has something
  bool group_is_open_ = false;  // not split, whoever wants to start messages: the ranks have to group alike

  std::mutex state_mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<DeviceOperation>> in_flight_;  // in the order of the stream
  std::optional<Error> cause_;
  bool ending_ = false;
  std::thread watcher_;
  Clock::time_point asked_peers_ = Clock::now();  // of the watcher
};

}  // namespace deepscale::nccl
