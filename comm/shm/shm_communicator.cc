// The communicator of ranks on one host, through shared memory.
//
// The caller's thread checks arguments and numbers the operation; Collectives and Pipes carry it out, each
// driven by its OperationQueue: by the thread that waits for the operation, else by one in the background.
#include <fmt/core.h>

#include "comm/arguments.h"
#include "comm/base/error.h"
#include "comm/communicator.h"
#include "comm/shm/collectives.h"
#include "comm/shm/host.h"
#include "comm/shm/operation_queue.h"
#include "comm/shm/pipes.h"
#include "comm/shm/shared_arena.h"
#include "comm/shm/waiter.h"
#include "comm/splitter.h"

namespace deepscale {

namespace shm {

namespace {

class ShmCommunicator final : public Communicator {
 public:
  ShmCommunicator(int rank, int world_size, std::shared_ptr<Store> store, const CommunicatorOptions& options)
      : store_(std::move(store)),
        splitter_(store_, options),
        host_(rank, world_size, store_.get(), options),
        sent_to_(static_cast<std::size_t>(world_size)),
        received_from_(static_cast<std::size_t>(world_size)) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  const char* backend() const override { return "shm"; }
  bool supports(DeviceKind device) const override { return device == DeviceKind::kCpu; }

  Work all_reduce(Buffer buffer, ReduceOp op) override {
    check_buffer(*this, "all_reduce", buffer);
    return submit_collective({.kind = OperationKind::kAllReduce, .reduce_op = op}, buffer, buffer);
  }
  Work reduce_scatter(Buffer input, Buffer output, ReduceOp op) override {
    check_whole_and_slice(*this, "reduce_scatter", input, output);
    return submit_collective({.kind = OperationKind::kReduceScatter, .reduce_op = op}, input, output);
  }
  Work all_gather(Buffer input, Buffer output) override {
    check_whole_and_slice(*this, "all_gather", output, input);
    return submit_collective({.kind = OperationKind::kAllGather}, input, output);
  }
  Work broadcast(Buffer buffer, int root) override {
    check_buffer(*this, "broadcast", buffer);
    check_root(*this, "broadcast", root);
    return submit_collective({.kind = OperationKind::kBroadcast, .root = root}, buffer, buffer);
  }
  Work all_to_all(Buffer input, Buffer output) override {
    check_equal_shares(*this, "all_to_all", input, output);
    return submit_collective({.kind = OperationKind::kAllToAll}, input, output);
  }
  Work barrier() override {
    const Buffer nothing{.dtype = DType::kUInt8};
    return submit_collective({.kind = OperationKind::kBarrier}, nothing, nothing);
  }
  Work send(Buffer buffer, int destination) override {
    check_buffer(*this, "send", buffer);
    check_peer(*this, "send", destination);
    return submit_message(buffer, destination, true, ++sent_to_[static_cast<std::size_t>(destination)]);
  }
  Work receive(Buffer buffer, int source) override {
    check_buffer(*this, "receive", buffer);
    check_peer(*this, "receive", source);
    return submit_message(buffer, source, false, ++received_from_[static_cast<std::size_t>(source)]);
  }

  std::unique_ptr<Communicator> split(int color, int key) override {
    return splitter_.split(*this, color, key, make_shm_communicator);
  }
  std::shared_ptr<std::byte> allocate_shared(std::size_t bytes) override {
    return arenas_.allocate(*this, bytes);
  }
  bool has_common_memory() const override { return true; }
  std::shared_ptr<std::byte> allocate_common(std::size_t bytes) override {
    return shm::allocate_common(*this, bytes);
  }

  void abort(const std::string& reason) override {
    host_.fail(ErrorCode::kAborted, "aborted: " + reason);
    collective_queue_.drive_in_background();
    pipe_queue_.drive_in_background();
  }

 private:
  // `header` says what the buffers do not.
  Work submit_collective(MessageHeader header, const Buffer& input, const Buffer& output) {
    const bool output_has_the_count = header.kind == OperationKind::kReduceScatter;
    header.number = ++collectives_submitted_;
    header.dtype = input.dtype;
    header.count = output_has_the_count ? output.count : input.count;
    return collective_queue_.submit(
        {.header = header, .input = input, .output = output, .read_place = arenas_.find(input)});
  }
  Work submit_message(const Buffer& buffer, int peer, bool is_send, std::uint64_t number) {
    const MessageHeader header{
        .kind = OperationKind::kPointToPoint, .dtype = buffer.dtype, .number = number, .count = buffer.count};
    return pipe_queue_.submit({.header = header, .input = buffer, .peer = peer, .is_send = is_send});
  }

  const std::shared_ptr<Store> store_;  // may hold the server that other ranks still need
  Splitter splitter_;
  Host host_;
  std::uint64_t collectives_submitted_ = 0;
  std::vector<std::uint64_t> sent_to_;
  std::vector<std::uint64_t> received_from_;
  SharedArenas arenas_;
  Waiter collective_waiter_{host_, Lane::kCollectives};
  Waiter pipe_waiter_{host_, Lane::kPipes};
  Collectives collectives_{host_, collective_waiter_,
                           [this](Operation& operation) { collective_queue_.finish(operation); }};
  Pipes pipes_{host_, pipe_waiter_, [this](Operation& operation) { pipe_queue_.finish(operation); }};
  OperationQueue collective_queue_{host_, Lane::kCollectives, collective_waiter_, collectives_};
  OperationQueue pipe_queue_{host_, Lane::kPipes, pipe_waiter_, pipes_};
};

}  // namespace

}  // namespace shm

std::unique_ptr<Communicator> make_shm_communicator(int rank, int world_size, std::shared_ptr<Store> store,
                                                    CommunicatorOptions options) {
  check_world("shm", rank, world_size, store.get());
  return std::make_unique<shm::ShmCommunicator>(rank, world_size, std::move(store), options);
}

}  // namespace deepscale
