#include "comm/nccl/nccl_communicator.h"

#include <fmt/core.h>

#include <map>
#include <utility>

#include "comm/arguments.h"
#include "comm/base/error.h"
#include "comm/nccl/device_queue.h"
#include "comm/nccl/peer_board.h"
#include "comm/nccl/rank_device.h"

namespace deepscale {

namespace nccl {

namespace {

bool is_on_device(const Buffer& buffer) {
  return buffer.device == DeviceKind::kCuda;
}

std::size_t elements(const Buffer& buffer) {
  return static_cast<std::size_t>(buffer.count);
}

// An operation on CPU buffers whose failure ends those on the GPU.
class HostOperation final : public Work::State {
 public:
  HostOperation(Work work, std::shared_ptr<DeviceQueue> queue)
      : work_(std::move(work)), queue_(std::move(queue)) {}
  bool is_done() const override { return work_.is_done(); }
  void wait() override {
    try {
      work_.wait();
    } catch (const Error& error) {
      queue_->fail(error);
      throw;
    }
  }

 private:
  Work work_;
  const std::shared_ptr<DeviceQueue> queue_;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<Communicator> host, std::shared_ptr<Store> store, const RankDevice& own,
                   const NcclOptions& options)
      : host_(std::move(host)), store_(std::move(store)), options_(options) {
    const auto board = std::make_shared<PeerBoard>(store_, options.name, host_->rank());
    queue_ = std::make_shared<DeviceQueue>(DeviceQueue::Options{
        .device = own.device,
        .api = own.api,
        .rank = host_->rank(),
        .size = host_->size(),
        .id = exchange_unique_id(*host_, *own.api),
        .timeout = options.timeout,
        .board = board,
        .on_failure =
            [board, host = host_](const Error& cause) {
              host->abort(cause.what());
              board->tell_failure(cause.what());
            },
    });
  }
  ~NcclCommunicator() override { queue_->close(); }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const char* backend() const override { return "nccl"; }
  bool supports(DeviceKind) const override { return true; }

  Work all_reduce(Buffer buffer, ReduceOp op) override;
  Work reduce_scatter(Buffer input, Buffer output, ReduceOp op) override;
  Work all_gather(Buffer input, Buffer output) override;
  Work broadcast(Buffer buffer, int root) override;
  Work all_to_all(Buffer input, Buffer output) override;
  Work send(Buffer buffer, int destination) override;
  Work receive(Buffer buffer, int source) override;
  Work barrier() override { return on_host(host_->barrier()); }
  // The members keep their GPUs, so the child has what it needs when the parent has.
  std::unique_ptr<Communicator> split(int color, int key) override {
    ++splits_;
    std::shared_ptr<Communicator> host = host_->split(color, key);
    if (host == nullptr) return nullptr;
    NcclOptions options = options_;
    options.name += fmt::format("/split {} color {}", splits_, color);
    return make_nccl_communicator(std::move(host), store_, options);
  }
  std::shared_ptr<std::byte> allocate_shared(std::size_t bytes) override {
    return host_->allocate_shared(bytes);
  }
  void abort(const std::string& reason) override {
    queue_->fail(Error(ErrorCode::kAborted, "aborted: " + reason));
  }

 protected:
  void begin_group() override { queue_->open_group(); }
  void end_group() override { queue_->close_group(); }

 private:
  Work on_host(Work work) { return Work(std::make_shared<HostOperation>(std::move(work), queue_)); }
  // `header` says what `buffer` does not.
  Work submit(MessageHeader header, const Buffer& buffer, DeviceQueue::Calls calls) {
    header.number = ++collectives_;
    header.dtype = buffer.dtype;
    header.count = buffer.count;
    if (buffer.count == 0) calls = [](const Api&, Comm, Stream) { return kSuccess; };
    return queue_->submit(header, buffer.stream, std::move(calls));
  }
  Work submit_message(const Buffer& buffer, const Route& route, DeviceQueue::Calls calls) {
    if (buffer.count == 0) calls = [](const Api&, Comm, Stream) { return kSuccess; };
    const MessageHeader header{.kind = OperationKind::kPointToPoint,
                               .dtype = buffer.dtype,
                               .number = ++messages_[{route.peer, route.is_send}],
                               .count = buffer.count};
    return queue_->submit_message(header, buffer.stream, route, std::move(calls));
  }

  const std::shared_ptr<Communicator> host_;
  const std::shared_ptr<Store> store_;
  const NcclOptions options_;
  std::uint64_t splits_ = 0;
  std::shared_ptr<DeviceQueue> queue_;
  std::uint64_t collectives_ = 0;
  std::map<std::pair<int, bool>, std::uint64_t> messages_;  // of each route
};

Work NcclCommunicator::all_reduce(Buffer buffer, ReduceOp op) {
  check_buffer(*this, "all_reduce", buffer);
  if (!is_on_device(buffer)) return on_host(host_->all_reduce(buffer, op));
  return submit({.kind = OperationKind::kAllReduce, .reduce_op = op}, buffer,
                [=](const Api& api, Comm comm, Stream stream) {
                  return api.all_reduce(buffer.data, buffer.data, elements(buffer),
                                        dtype_number(buffer.dtype), reduce_op_number(op), comm, stream);
                });
}

Work NcclCommunicator::reduce_scatter(Buffer input, Buffer output, ReduceOp op) {
  check_whole_and_slice(*this, "reduce_scatter", input, output);
  if (!is_on_device(input)) return on_host(host_->reduce_scatter(input, output, op));
  Buffer shape = output;
  shape.stream = input.stream;
  return submit({.kind = OperationKind::kReduceScatter, .reduce_op = op}, shape,
                [=](const Api& api, Comm comm, Stream stream) {
                  return api.reduce_scatter(input.data, output.data, elements(output),
                                            dtype_number(output.dtype), reduce_op_number(op), comm, stream);
                });
}

Work NcclCommunicator::all_gather(Buffer input, Buffer output) {
  check_whole_and_slice(*this, "all_gather", output, input);
  if (!is_on_device(input)) return on_host(host_->all_gather(input, output));
  return submit({.kind = OperationKind::kAllGather}, input, [=](const Api& api, Comm comm, Stream stream) {
    return api.all_gather(input.data, output.data, elements(input), dtype_number(input.dtype), comm, stream);
  });
}

Work NcclCommunicator::broadcast(Buffer buffer, int root) {
  check_buffer(*this, "broadcast", buffer);
  check_root(*this, "broadcast", root);
  if (!is_on_device(buffer)) return on_host(host_->broadcast(buffer, root));
  return submit({.kind = OperationKind::kBroadcast, .root = root}, buffer,
                [=](const Api& api, Comm comm, Stream stream) {
                  return api.broadcast(buffer.data, buffer.data, elements(buffer), dtype_number(buffer.dtype),
                                       root, comm, stream);
                });
}

Work NcclCommunicator::all_to_all(Buffer input, Buffer output) {
  check_equal_shares(*this, "all_to_all", input, output);
  if (!is_on_device(input)) return on_host(host_->all_to_all(input, output));
  const int ranks = size();
  return submit({.kind = OperationKind::kAllToAll}, input, [=](const Api& api, Comm comm, Stream stream) {
    const std::size_t share = elements(input) / static_cast<std::size_t>(ranks);
    const std::size_t share_bytes = share * size_of(input.dtype);
    const int dtype = dtype_number(input.dtype);
    Result result = api.group_start();
    for (int rank = 0; rank < ranks && (result == kSuccess || result == kInProgress); ++rank) {
      const std::size_t offset = static_cast<std::size_t>(rank) * share_bytes;
      result = api.send(static_cast<std::byte*>(input.data) + offset, share, dtype, rank, comm, stream);
      if (result != kSuccess && result != kInProgress) break;
      result = api.receive(static_cast<std::byte*>(output.data) + offset, share, dtype, rank, comm, stream);
    }
    const Result ended = api.group_end();
    return result == kSuccess || result == kInProgress ? ended : result;
  });
}

Work NcclCommunicator::send(Buffer buffer, int destination) {
  check_buffer(*this, "send", buffer);
  check_peer(*this, "send", destination);
  if (!is_on_device(buffer)) return on_host(host_->send(buffer, destination));
  return submit_message(buffer, {destination, true}, [=](const Api& api, Comm comm, Stream stream) {
    return api.send(buffer.data, elements(buffer), dtype_number(buffer.dtype), destination, comm, stream);
  });
}

Work NcclCommunicator::receive(Buffer buffer, int source) {
  check_buffer(*this, "receive", buffer);
  check_peer(*this, "receive", source);
  if (!is_on_device(buffer)) return on_host(host_->receive(buffer, source));
  return submit_message(buffer, {source, false}, [=](const Api& api, Comm comm, Stream stream) {
    return api.receive(buffer.data, elements(buffer), dtype_number(buffer.dtype), source, comm, stream);
  });
}

}  // namespace

}  // namespace nccl

std::unique_ptr<Communicator> make_nccl_communicator(std::shared_ptr<Communicator> host,
                                                     std::shared_ptr<Store> store,
                                                     const NcclOptions& options) {
  const nccl::RankDevice own =
      nccl::open_rank_device(options.device, options.nccl_library, options.driver_library);
  const auto obstacle = nccl::find_obstacle(nccl::exchange_notes(*host, nccl::note_of(own)));
  if (obstacle) throw Error(ErrorCode::kUnsupported, *obstacle);
  return std::make_unique<nccl::NcclCommunicator>(std::move(host), std::move(store), own, options);
}

std::shared_ptr<Communicator> make_device_communicator(const WorldLayout& layout,
                                                       std::shared_ptr<Store> store,
                                                       CommunicatorOptions options, NcclOptions nccl) {
  const bool is_demanded = options.backend == "nccl";
  const bool is_excluded = !is_demanded && (!options.backend.empty() || layout.world_size == 1);
  if (is_demanded) options.backend.clear();
  std::shared_ptr<Communicator> host = make_communicator(layout, store, options);
  if (is_excluded) return host;
  nccl.timeout = options.timeout;
  nccl.name = fmt::format("{}, generation {}", options.name, layout.generation);
  const auto log = [&](const std::string& text) {
    if (layout.rank == 0) options.logger.info("communicator '{}': {}", options.name, text);
  };
  try {
    std::shared_ptr<Communicator> both = make_nccl_communicator(host, std::move(store), nccl);
    log("CUDA buffers go through NCCL");
    return both;
  } catch (const Error& error) {
    if (is_demanded || error.code() != ErrorCode::kUnsupported) throw;
    log(fmt::format("CUDA buffers go through host memory, not NCCL, since {}", error.what()));
    return host;
  }
}

}  // namespace deepscale
