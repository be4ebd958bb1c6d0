// The communicator over TCP: plain and correct, the oracle for the faster backends.
//
// The caller's thread checks arguments and numbers the operation; a ProgressThread does the rest. Collectives
// are direct exchanges: in reduce_scatter rank j receives slice j from everybody and reduces it in order of
// rank; all_reduce is that, and an all_gather of the results that starts while the reduction still runs.
#include <fmt/core.h>

#include "comm/arguments.h"
#include "comm/base/error.h"
#include "comm/buffer_parts.h"
#include "comm/communicator.h"
#include "comm/reduction.h"
#include "comm/splitter.h"
#include "comm/tcp/progress_thread.h"
#include "comm/tcp/streaming_reduction.h"

namespace deepscale {

namespace tcp {

namespace {

class TcpCommunicator final : public Communicator {
 public:
  TcpCommunicator(int rank, int world_size, std::shared_ptr<Store> store, const CommunicatorOptions& options)
      : rank_(rank),
        size_(world_size),
        store_(std::move(store)),
        splitter_(store_, options),
        sent_to_(world_size),
        received_from_(world_size),
        progress_(rank, world_size, store_.get(), options) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* backend() const override { return "tcp"; }
  bool supports(DeviceKind device) const override { return device == DeviceKind::kCpu; }

  Work all_reduce(Buffer buffer, ReduceOp op) override;
  Work reduce_scatter(Buffer input, Buffer output, ReduceOp op) override;
  Work all_gather(Buffer input, Buffer output) override;
  Work broadcast(Buffer buffer, int root) override;
  Work all_to_all(Buffer input, Buffer output) override;
  Work send(Buffer buffer, int destination) override;
  Work receive(Buffer buffer, int source) override;
  Work barrier() override;
  std::unique_ptr<Communicator> split(int color, int key) override {
    return splitter_.split(*this, color, key, make_tcp_communicator);
  }
  void abort(const std::string& reason) override { progress_.abort(reason); }

 private:
  Work submit_collective(MessageHeader header, ProgressThread::Start start) {
    header.number = ++collectives_;
    return progress_.submit(header, std::move(start));
  }

  // The rest is for the functions that run on the progress thread.
  void send_to(int peer, Operation& operation, const Buffer& buffer) {
    progress_.channel(peer).send(operation.add_transfer(buffer));
  }
  void receive_from(int peer, Operation& operation, const Buffer& buffer) {
    progress_.channel(peer).receive(operation.add_transfer(buffer));
  }
  StreamingReduction& receive_parts(Operation& operation, const Buffer& own, const Buffer& output);
  // Begins behind the own rank, so that not all ranks turn to rank 0 first.
  template <typename Action>
  void for_each_peer(Action action) {
    for (int distance = 1; distance < size_; ++distance) action((rank_ + distance) % size_);
  }

  const int rank_;
  const int size_;
  const std::shared_ptr<Store> store_;  // may hold the server that other ranks still need
  Splitter splitter_;
  std::uint64_t collectives_ = 0;
  std::vector<std::uint64_t> sent_to_;
  std::vector<std::uint64_t> received_from_;
  ProgressThread progress_;
};

Work TcpCommunicator::all_reduce(Buffer buffer, ReduceOp op) {
  check_buffer(*this, "all_reduce", buffer);
  const MessageHeader header{
      .kind = OperationKind::kAllReduce, .dtype = buffer.dtype, .reduce_op = op, .count = buffer.count};
  return submit_collective(header, [this, buffer](Operation& operation) {
    const auto slice = [&](int rank) {
      const Slice range = slice_of(buffer.count, rank, size_);
      return part_of(buffer, range.offset, range.count);
    };
    for_each_peer([&](int peer) { send_to(peer, operation, slice(peer)); });
    StreamingReduction& reduction = receive_parts(operation, slice(rank_), slice(rank_));
    operation.next_step();
    for_each_peer([&](int peer) {
      Transfer& result = operation.add_transfer(slice(rank_));
      reduction.add_result(progress_.channel(peer), result);
      progress_.channel(peer).send(result);
      // Overwrites what was sent to that peer above: its result comes only after it has received that.
      receive_from(peer, operation, slice(peer));
    });
    reduction.advance();
  });
}

Work TcpCommunicator::reduce_scatter(Buffer input, Buffer output, ReduceOp op) {
  check_whole_and_slice(*this, "reduce_scatter", input, output);
  const MessageHeader header{
      .kind = OperationKind::kReduceScatter, .dtype = input.dtype, .reduce_op = op, .count = output.count};
  return submit_collective(header, [this, input, output](Operation& operation) {
    const auto slice = [&](int rank) { return part_of(input, rank * output.count, output.count); };
    for_each_peer([&](int peer) { send_to(peer, operation, slice(peer)); });
    receive_parts(operation, slice(rank_), output).advance();
  });
}

StreamingReduction& TcpCommunicator::receive_parts(Operation& operation, const Buffer& own,
                                                   const Buffer& output) {
  auto reduction = std::make_shared<StreamingReduction>(own, output, operation.header().reduce_op);
  operation.keep(reduction);
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) {
      reduction->add_own();
      continue;
    }
    Transfer& part = operation.add_transfer(output);
    reduction->add_peer(progress_.channel(rank), part);
    progress_.channel(rank).receive(part);
  }
  return *reduction;
}

Work TcpCommunicator::all_gather(Buffer input, Buffer output) {
  check_whole_and_slice(*this, "all_gather", output, input);
  const MessageHeader header{.kind = OperationKind::kAllGather, .dtype = input.dtype, .count = input.count};
  return submit_collective(header, [this, input, output](Operation& operation) {
    const auto slice = [&](int rank) { return part_of(output, rank * input.count, input.count); };
    for_each_peer([&](int peer) {
      send_to(peer, operation, input);
      receive_from(peer, operation, slice(peer));
    });
    copy(input, slice(rank_));
  });
}

Work TcpCommunicator::broadcast(Buffer buffer, int root) {
  check_buffer(*this, "broadcast", buffer);
  check_root(*this, "broadcast", root);
  const MessageHeader header{
      .kind = OperationKind::kBroadcast, .dtype = buffer.dtype, .count = buffer.count, .root = root};
  return submit_collective(header, [this, buffer, root](Operation& operation) {
    if (rank_ != root) return receive_from(root, operation, buffer);
    for_each_peer([&](int peer) { send_to(peer, operation, buffer); });
  });
}

Work TcpCommunicator::all_to_all(Buffer input, Buffer output) {
  check_equal_shares(*this, "all_to_all", input, output);
  const MessageHeader header{.kind = OperationKind::kAllToAll, .dtype = input.dtype, .count = input.count};
  return submit_collective(header, [this, input, output](Operation& operation) {
    const std::int64_t share = input.count / size_;
    for_each_peer([&](int peer) {
      send_to(peer, operation, part_of(input, peer * share, share));
      receive_from(peer, operation, part_of(output, peer * share, share));
    });
    copy(part_of(input, rank_ * share, share), part_of(output, rank_ * share, share));
  });
}

Work TcpCommunicator::send(Buffer buffer, int destination) {
  check_buffer(*this, "send", buffer);
  check_peer(*this, "send", destination);
  const std::uint64_t number = ++sent_to_[destination];
  const MessageHeader header{
      .kind = OperationKind::kPointToPoint, .dtype = buffer.dtype, .number = number, .count = buffer.count};
  return progress_.submit(header,
                          [=, this](Operation& operation) { send_to(destination, operation, buffer); });
}

Work TcpCommunicator::receive(Buffer buffer, int source) {
  check_buffer(*this, "receive", buffer);
  check_peer(*this, "receive", source);
  const std::uint64_t number = ++received_from_[source];
  const MessageHeader header{
      .kind = OperationKind::kPointToPoint, .dtype = buffer.dtype, .number = number, .count = buffer.count};
  return progress_.submit(header,
                          [=, this](Operation& operation) { receive_from(source, operation, buffer); });
}

Work TcpCommunicator::barrier() {
  return submit_collective({.kind = OperationKind::kBarrier}, [this](Operation& operation) {
    for_each_peer([&](int peer) {
      send_to(peer, operation, Buffer());
      receive_from(peer, operation, Buffer());
    });
  });
}

}  // namespace

}  // namespace tcp

std::unique_ptr<Communicator> make_tcp_communicator(int rank, int world_size, std::shared_ptr<Store> store,
                                                    CommunicatorOptions options) {
  check_world("tcp", rank, world_size, store.get());
  return std::make_unique<tcp::TcpCommunicator>(rank, world_size, std::move(store), options);
}

}  // namespace deepscale
