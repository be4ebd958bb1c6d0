// The communicator over Gloo, for those who have to use it: tcp is faster (docs/decisions/0017-gloo.md).
//
// A thread runs the collectives one after the other; a send or receive has one for its peer and direction.
// The ranks first tell each other which operation they are in. Reductions are direct exchanges, as in tcp:
// rank j receives slice j from everybody and sums it in order of rank.
#include <fmt/core.h>

#include <map>

#include "comm/arguments.h"
#include "comm/base/error.h"
#include "comm/buffer_parts.h"
#include "comm/communicator.h"
#include "comm/gloo/transport.h"
#include "comm/message_header.h"
#include "comm/reduction.h"
#include "comm/splitter.h"
#include "comm/step_queue.h"

namespace deepscale {

namespace gloo {

namespace {

// The steps have deadlines, and know better than the queue what they wait for.
constexpr auto kPatience = std::chrono::seconds(1);

Buffer buffer_of(MessageHeader& header) {
  return {&header, sizeof header, DType::kUInt8};
}

// One operation while it runs.
class Call {
 public:
  Call(Transport& transport, const MessageHeader& header, Lane lane, Deadline deadline)
      : transport_(transport), header_(header), lane_(lane), deadline_(deadline) {}

  void send(const Buffer& buffer, int peer) { messages_.push_back(sending(buffer, peer, lane_)); }
  void receive(const Buffer& buffer, int peer) { messages_.push_back(receiving(buffer, peer, lane_)); }
  // Blocks until everything above is through.
  void exchange() { transport_.exchange(std::exchange(messages_, {}), describe(header_), deadline_); }

  void announce_to(int peer) { send(buffer_of(header_), peer); }
  void require_same(int rank, int peer, const MessageHeader& theirs) const {
    if (theirs == header_) return;
    throw Error(ErrorCode::kInvalidArgument, describe_disagreement(rank, header_, peer, theirs));
  }

 private:
  Transport& transport_;
  MessageHeader header_;
  const Lane lane_;
  const Deadline deadline_;
  std::vector<TransferRequest> messages_;
};

class GlooCommunicator final : public Communicator {
 public:
  GlooCommunicator(int rank, int world_size, std::shared_ptr<Store> store, const CommunicatorOptions& options)
      : rank_(rank),
        size_(world_size),
        timeout_(std::min<Clock::duration>(options.timeout, std::chrono::hours(24 * 365))),
        store_(std::move(store)),
        splitter_(store_, options),
        transport_(rank, world_size, store_.get(), options),
        cause_(std::make_shared<FirstCause>([this](const std::string& why) { transport_.abort(why); })),
        collectives_(make_queue()) {}
  ~GlooCommunicator() override {
    bool is_idle = collectives_->is_idle();
    for (const auto& [lane, queue] : messages_) is_idle = is_idle && queue->is_idle();
    if (!is_idle)
      cause_->set(ErrorCode::kAborted, "the communicator was destroyed with operations in flight");
    cause_->disarm();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* backend() const override { return "gloo"; }
  bool supports(DeviceKind device) const override { return device == DeviceKind::kCpu; }

  Work all_reduce(Buffer buffer, ReduceOp op) override;
  Work reduce_scatter(Buffer input, Buffer output, ReduceOp op) override;
  Work all_gather(Buffer input, Buffer output) override;
  Work broadcast(Buffer buffer, int root) override;
  Work all_to_all(Buffer input, Buffer output) override;
  Work send(Buffer buffer, int destination) override;
  Work receive(Buffer buffer, int source) override;
  Work barrier() override {
    return submit({.kind = OperationKind::kBarrier}, [](Call&) {});  // that all have come is all
  }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return splitter_.split(*this, color, key, make_gloo_communicator);
  }
  void abort(const std::string& reason) override { cause_->set(ErrorCode::kAborted, "aborted: " + reason); }

 private:
  using Steps = std::function<void(Call&)>;

  std::unique_ptr<StepQueue> make_queue() const {
    return std::make_unique<StepQueue>(fmt::format("rank {} of {}", rank_, size_), timeout_ + kPatience,
                                       cause_);
  }
  Work submit(MessageHeader header, Steps steps);
  Work submit_message(MessageHeader header, int peer, bool sends, Steps steps);
  void meet(Call& call) const;
  void reduce_parts(Call& call, const std::function<Buffer(int)>& slice, const Buffer& output,
                    ReduceOp op) const;
  template <typename Action>
  void for_each_peer(Action action) const {
    for (int distance = 1; distance < size_; ++distance) action((rank_ + distance) % size_);
  }

  const int rank_;
  const int size_;
  const Clock::duration timeout_;
  const std::shared_ptr<Store> store_;  // may hold the server that other ranks still need
  Splitter splitter_;
  std::uint64_t started_ = 0;
  std::map<std::pair<int, bool>, std::uint64_t> messages_started_;  // by peer and whether it sends
  Transport transport_;
  const std::shared_ptr<FirstCause> cause_;
  const std::unique_ptr<StepQueue> collectives_;
  std::map<std::pair<int, bool>, std::unique_ptr<StepQueue>> messages_;
};

Work GlooCommunicator::submit(MessageHeader header, Steps steps) {
  header.number = ++started_;
  const Deadline deadline = Deadline::after(timeout_);
  return collectives_->submit(describe(header), [=, this, steps = std::move(steps)] {
    Call call(transport_, header, Lane::kCollectives, deadline);
    meet(call);
    steps(call);
  });
}

void GlooCommunicator::meet(Call& call) const {
  std::vector<MessageHeader> headers(static_cast<std::size_t>(size_));
  for_each_peer([&](int peer) {
    call.announce_to(peer);
    call.receive(buffer_of(headers[peer]), peer);
  });
  call.exchange();
  for_each_peer([&](int peer) { call.require_same(rank_, peer, headers[peer]); });
}

Work GlooCommunicator::submit_message(MessageHeader header, int peer, bool sends, Steps steps) {
  header.kind = OperationKind::kPointToPoint;
  header.number = ++messages_started_[{peer, sends}];
  auto& queue = messages_[{peer, sends}];
  if (queue == nullptr) queue = make_queue();
  const Deadline deadline = Deadline::after(timeout_);
  return queue->submit(describe(header), [=, this, steps = std::move(steps)] {
    Call call(transport_, header, Lane::kMessages, deadline);
    steps(call);
    call.exchange();
  });
}

Work GlooCommunicator::send(Buffer buffer, int destination) {
  check_buffer(*this, "send", buffer);
  check_peer(*this, "send", destination);
  return submit_message({.dtype = buffer.dtype, .count = buffer.count}, destination, true, [=](Call& call) {
    call.announce_to(destination);
    call.send(buffer, destination);
  });
}

Work GlooCommunicator::receive(Buffer buffer, int source) {
  check_buffer(*this, "receive", buffer);
  check_peer(*this, "receive", source);
  return submit_message({.dtype = buffer.dtype, .count = buffer.count}, source, false, [=, this](Call& call) {
    MessageHeader theirs;
    call.receive(buffer_of(theirs), source);
    call.exchange();
    call.require_same(rank_, source, theirs);
    call.receive(buffer, source);
  });
}

// `slice` gives what of this rank's input belongs to which rank. The own slice may be the output.
void GlooCommunicator::reduce_parts(Call& call, const std::function<Buffer(int)>& slice, const Buffer& output,
                                    ReduceOp op) const {
  const Scratch parts(output, output.count * size_);
  const auto part = [&](int rank) {
    return rank == rank_ ? slice(rank) : part_of(parts.buffer(), output.count * rank, output.count);
  };
  for_each_peer([&](int peer) {
    call.send(slice(peer), peer);
    call.receive(part(peer), peer);
  });
  call.exchange();
  std::vector<const std::byte*> sources;
  for (int rank = 0; rank < size_; ++rank) sources.push_back(static_cast<const std::byte*>(part(rank).data));
  reduce(sources, static_cast<std::byte*>(output.data), output.count, output.dtype, op);
}

Work GlooCommunicator::all_reduce(Buffer buffer, ReduceOp op) {
  check_buffer(*this, "all_reduce", buffer);
  const MessageHeader header{
      .kind = OperationKind::kAllReduce, .dtype = buffer.dtype, .reduce_op = op, .count = buffer.count};
  return submit(header, [=, this](Call& call) {
    const auto slice = [&](int rank) {
      const Slice range = slice_of(buffer.count, rank, size_);
      return part_of(buffer, range.offset, range.count);
    };
    reduce_parts(call, slice, slice(rank_), op);
    for_each_peer([&](int peer) {
      call.send(slice(rank_), peer);
      call.receive(slice(peer), peer);
    });
    call.exchange();
  });
}

Work GlooCommunicator::reduce_scatter(Buffer input, Buffer output, ReduceOp op) {
  check_whole_and_slice(*this, "reduce_scatter", input, output);
  const MessageHeader header{
      .kind = OperationKind::kReduceScatter, .dtype = input.dtype, .reduce_op = op, .count = output.count};
  return submit(header, [=, this](Call& call) {
    reduce_parts(
        call, [&](int rank) { return part_of(input, rank * output.count, output.count); }, output, op);
  });
}

Work GlooCommunicator::all_gather(Buffer input, Buffer output) {
  check_whole_and_slice(*this, "all_gather", output, input);
  const MessageHeader header{.kind = OperationKind::kAllGather, .dtype = input.dtype, .count = input.count};
  return submit(header, [=, this](Call& call) {
    const auto slice = [&](int rank) { return part_of(output, rank * input.count, input.count); };
    for_each_peer([&](int peer) {
      call.send(input, peer);
      call.receive(slice(peer), peer);
    });
    copy(input, slice(rank_));
    call.exchange();
  });
}

Work GlooCommunicator::broadcast(Buffer buffer, int root) {
  check_buffer(*this, "broadcast", buffer);
  check_root(*this, "broadcast", root);
  const MessageHeader header{
      .kind = OperationKind::kBroadcast, .dtype = buffer.dtype, .count = buffer.count, .root = root};
  return submit(header, [=, this](Call& call) {
    if (rank_ == root) {
      for_each_peer([&](int peer) { call.send(buffer, peer); });
    } else {
      call.receive(buffer, root);
    }
    call.exchange();
  });
}

Work GlooCommunicator::all_to_all(Buffer input, Buffer output) {
  check_equal_shares(*this, "all_to_all", input, output);
  const MessageHeader header{.kind = OperationKind::kAllToAll, .dtype = input.dtype, .count = input.count};
  return submit(header, [=, this](Call& call) {
    const std::int64_t share = input.count / size_;
    for_each_peer([&](int peer) {
      call.send(part_of(input, peer * share, share), peer);
      call.receive(part_of(output, peer * share, share), peer);
    });
    copy(part_of(input, rank_ * share, share), part_of(output, rank_ * share, share));
    call.exchange();
  });
}

}  // namespace

}  // namespace gloo

std::unique_ptr<Communicator> make_gloo_communicator(int rank, int world_size, std::shared_ptr<Store> store,
                                                     CommunicatorOptions options) {
  check_world("gloo", rank, world_size, store.get());
  return std::make_unique<gloo::GlooCommunicator>(rank, world_size, std::move(store), options);
}

}  // namespace deepscale
