// The collectives among the ranks of one host.
//
// Each begins with a Post of every rank, in which they compare what they are in. Then the data takes one of
// three ways, chosen by what all of them posted:
//
//   posted    up to kPostedBytes: the data lies behind the post; every rank reads what it needs. One hop.
//   in place  all inputs lie in one SharedArena: every rank reads the peers' memory, and all_reduce writes
//   its
//             slice of the result into everybody's. Two hops, nothing is staged.
//   staged    a pipeline of pieces through stages that fit into the cache. One hop a piece, two for
//   all_reduce.
//
// Whatever way, a rank reduces its own slice, from all ranks in their order: so all get the same bits, and
// the traffic does not grow with the number of ranks.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "comm/shm/exchange.h"
#include "comm/shm/host.h"
#include "comm/shm/operation_queue.h"
#include "comm/shm/waiter.h"

namespace deepscale::shm {

class Collectives final : public OperationQueue::Worker {
 public:
  // Called when an operation is complete; it is not touched after that.
  using Finish = std::function<void(Operation&)>;
  Collectives(Host& host, Waiter& waiter, Finish finish);

  bool start(Operation& operation) override;
  void advance(const std::atomic<bool>& has_submissions) override;
  void forget_all() override { queue_.clear(); }

 private:
  void post(Operation& operation);
  void complete(Operation& operation);
  void await_posts(const Operation& operation);
  // Says that this rank has taken one more step, and waits until all have.
  void step(const Operation& operation);

  void complete_posted(const Operation& operation);
  bool all_are_in_one_arena(const Operation& operation);
  void complete_in_place(const Operation& operation);
  void reduce_in_place(const Operation& operation, const std::vector<const std::byte*>& inputs);
  // Reduces `bytes` of each source, in blocks, into all targets.
  void reduce_into(const Operation& operation, std::vector<const std::byte*> sources, std::size_t bytes,
                   const std::vector<std::byte*>& targets);
  void complete_staged(const Operation& operation);
  void stage(const Operation& operation, std::size_t begin);
  void take_staged(const Operation& operation, std::size_t begin);
  void reduce_piece(const Operation& operation, std::size_t begin);
  void take_results(const Operation& operation, std::size_t begin);

  std::size_t piece_bytes(const Exchange& exchange) const;
  std::size_t stage_offset(const Exchange& exchange, int from, int to) const;

  Post& post_of(int rank) { return host_.block(rank).posts[number_ % 2]; }
  std::byte* posted_by(int rank, const Exchange& exchange) {
    if (exchange.input_bytes() <= kBytesInPost) return post_of(rank).data.data();
    return host_.posted(rank)[number_ % 2].data();
  }
  std::byte* input_stage_of(int rank) { return host_.stages(rank).inputs[pieces_ % 2].data(); }
  std::byte* result_stage_of(int rank) { return host_.stages(rank).results[pieces_ % 2].data(); }

  Host& host_;
  Waiter& waiter_;
  const Finish finish_;
  const int rank_;
  const int size_;
  std::deque<Operation*> queue_;  // the first one is posted
  std::uint64_t number_ = 0;      // of the operation that is posted
  std::uint64_t step_ = 0;        // taken so far, over all operations
  std::uint64_t pieces_ = 0;      // staged so far, over all operations
  std::vector<std::byte> scratch_;
};

}  // namespace deepscale::shm
