#include "comm/hierarchical/hierarchical_communicator.h"

#include <fmt/core.h>

#include <algorithm>

#include "comm/arguments.h"
#include "comm/base/error.h"
#include "comm/first_cause.h"
#include "comm/hierarchical/hierarchy.h"
#include "comm/message_header.h"
#include "comm/shm/host_rendezvous.h"
#include "comm/splitter.h"
#include "comm/step_queue.h"

namespace deepscale {

namespace hierarchical {

namespace {

constexpr auto kLongestTimeout = std::chrono::hours(24 * 365);  // now + timeout must not overflow

class HierarchicalCommunicator final : public Communicator {
 public:
  HierarchicalCommunicator(Shape shape, Hierarchy::Parts parts, std::shared_ptr<Store> store,
                           const CommunicatorOptions& options)
      : store_(store),
        splitter_(std::move(store), options),
        hierarchy_(shape, std::move(parts)),
        cause_(std::make_shared<FirstCause>([this](const std::string& why) { hierarchy_.abort(why); })),
        queue_(fmt::format("rank {} of {}", shape.rank, shape.size()), options.timeout, cause_) {}
  ~HierarchicalCommunicator() override {
    if (!queue_.is_idle()) {
      cause_->set(ErrorCode::kAborted, "the communicator was destroyed with operations in flight");
    }
    cause_->disarm();
  }

  int rank() const override { return hierarchy_.shape().rank; }
  int size() const override { return hierarchy_.shape().size(); }
  const char* backend() const override { return "hierarchical"; }
  bool supports(DeviceKind device) const override { return device == DeviceKind::kCpu; }

  Work all_reduce(Buffer buffer, ReduceOp op) override {
    check_buffer(*this, "all_reduce", buffer);
    return submit({.kind = OperationKind::kAllReduce, .reduce_op = op}, buffer,
                  [=, this] { hierarchy_.all_reduce(buffer, op); });
  }
  Work reduce_scatter(Buffer input, Buffer output, ReduceOp op) override {
    check_whole_and_slice(*this, "reduce_scatter", input, output);
    return submit({.kind = OperationKind::kReduceScatter, .reduce_op = op}, output,
                  [=, this] { hierarchy_.reduce_scatter(input, output, op); });
  }
  Work all_gather(Buffer input, Buffer output) override {
    check_whole_and_slice(*this, "all_gather", output, input);
    return submit({.kind = OperationKind::kAllGather}, input,
                  [=, this] { hierarchy_.all_gather(input, output); });
  }
  Work broadcast(Buffer buffer, int root) override {
    check_buffer(*this, "broadcast", buffer);
    check_root(*this, "broadcast", root);
    return submit({.kind = OperationKind::kBroadcast, .root = root}, buffer,
                  [=, this] { hierarchy_.broadcast(buffer, root); });
  }
  Work all_to_all(Buffer input, Buffer output) override {
    check_equal_shares(*this, "all_to_all", input, output);
    return submit({.kind = OperationKind::kAllToAll}, input,
                  [=, this] { hierarchy_.all_to_all(input, output); });
  }
  Work barrier() override {
    return submit({.kind = OperationKind::kBarrier}, {.dtype = DType::kUInt8},
                  [this] { hierarchy_.barrier(); });
  }
  Work send(Buffer buffer, int destination) override {
    check_buffer(*this, "send", buffer);
    check_peer(*this, "send", destination);
    return queue_.watch(fmt::format("send to rank {}", destination), hierarchy_.send(buffer, destination));
  }
  Work receive(Buffer buffer, int source) override {
    check_buffer(*this, "receive", buffer);
    check_peer(*this, "receive", source);
    return queue_.watch(fmt::format("receive from rank {}", source), hierarchy_.receive(buffer, source));
  }
  std::unique_ptr<Communicator> split(int color, int key) override;
  std::shared_ptr<std::byte> allocate_shared(std::size_t bytes) override {
    std::shared_ptr<std::byte> memory;
    queue_.submit("allocate_shared", [&] { memory = hierarchy_.allocate_shared(bytes); }).wait();
    return memory;
  }
  void abort(const std::string& reason) override { cause_->set(ErrorCode::kAborted, "aborted: " + reason); }

 private:
  // `header` says what the buffer does not.
  Work submit(MessageHeader header, const Buffer& buffer, std::function<void()> steps) {
    header.number = ++collectives_;
    header.dtype = buffer.dtype;
    header.count = buffer.count;
    return queue_.submit(describe(header), std::move(steps));
  }

  const std::shared_ptr<Store> store_;  // may hold the server that other ranks still need
  Splitter splitter_;
  std::uint64_t collectives_ = 0;
  Hierarchy hierarchy_;
  const std::shared_ptr<FirstCause> cause_;
  StepQueue queue_;
};

// The members are on hosts of ours; that they see it alike is all that make_communicator() needs.
std::unique_ptr<Communicator> HierarchicalCommunicator::split(int color, int key) {
  const std::vector<int> members = splitter_.meet(*this, color, key);
  if (members.empty()) return nullptr;
  const Shape& shape = hierarchy_.shape();
  std::vector<int> hosts;  // in the order in which they come
  WorldLayout layout;
  layout.world_size = static_cast<int>(members.size());
  layout.local_world_size = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const int host = members[i] / shape.ranks_per_host;
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
    if (members[i] == shape.rank) {
      layout.rank = static_cast<int>(i);
      layout.local_rank = layout.local_world_size;
    }
    if (host == shape.host()) ++layout.local_world_size;
  }
  layout.node_count = static_cast<int>(hosts.size());
  layout.node_rank = static_cast<int>(std::find(hosts.begin(), hosts.end(), shape.host()) - hosts.begin());
  return make_communicator(layout, store_, splitter_.child_options(color));
}

// All ranks learn what all of them believe, so they all take it or all refuse it.
void require_even_hosts(const WorldLayout& layout, const shm::Round& round) {
  const auto beliefs = shm::agree(round, [&] {
    const bool numbered_by_host =
        layout.rank == layout.node_rank * layout.local_world_size + layout.local_rank;
    if (layout.node_count < 2 || layout.local_world_size < 2 || !numbered_by_host ||
        layout.world_size != layout.node_count * layout.local_world_size) {
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format("it has place {} of {} on node {} of {}, which is no hierarchy of equal hosts",
                      layout.local_rank, layout.local_world_size, layout.node_rank, layout.node_count));
    }
    return fmt::format("{} nodes of {} ranks", layout.node_count, layout.local_world_size);
  });
  for (std::size_t rank = 0; rank < beliefs.size(); ++rank) {
    if (beliefs[rank] == beliefs[0]) continue;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("rank 0 sees {}, and rank {} sees {}", beliefs[0], rank, beliefs[rank]));
  }
}

}  // namespace

}  // namespace hierarchical

std::unique_ptr<Communicator> make_hierarchical_communicator(const WorldLayout& layout,
                                                             std::shared_ptr<Store> store,
                                                             CommunicatorOptions options) {
  if (store == nullptr) {
    throw Error(ErrorCode::kInvalidArgument, "a hierarchical communicator needs a store to find its ranks");
  }
  shm::Round round{
      *store, layout.rank, layout.world_size, options.name + "/hosts",
      Deadline::after(std::min<Clock::duration>(options.timeout, hierarchical::kLongestTimeout))};
  hierarchical::require_even_hosts(layout, round);
  const auto named = [&](const std::string& part) {
    CommunicatorOptions named_options = options;
    named_options.name += part;
    return named_options;
  };
  hierarchical::Hierarchy::Parts parts;
  round.name += ", within";
  shm::agree(round, [&] {
    parts.within = make_shm_communicator(layout.local_rank, layout.local_world_size, store,
                                         named(fmt::format("/node {}", layout.node_rank)));
    return std::string();
  });
  parts.between = make_tcp_communicator(layout.node_rank, layout.node_count, store,
                                        named(fmt::format("/place {}", layout.local_rank)));
  parts.all = make_tcp_communicator(layout.rank, layout.world_size, store, named("/all"));
  const hierarchical::Shape shape{layout.rank, layout.local_world_size, layout.node_count};
  return std::make_unique<hierarchical::HierarchicalCommunicator>(shape, std::move(parts), std::move(store),
                                                                  options);
}

}  // namespace deepscale
