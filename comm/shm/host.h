// The ranks of a communicator on one host: their shared memory, and who of them is still there.
//
//   connect -> running -- leave (destructor) --> left
//                 \------ fail() -------------> gave up, with a reason that the peers can read
//
// fail() and the questions may be called from any thread; nothing here blocks after the constructor.
#pragma once

#include <atomic>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "comm/base/error.h"
#include "comm/communicator.h"
#include "comm/shm/doorbell.h"
#include "comm/shm/host_processes.h"
#include "comm/shm/rank_block.h"
#include "comm/shm/shared_segment.h"

namespace deepscale::shm {

class Host {
 public:
  // Blocks until all ranks have mapped the memory of all, at most until options.timeout. The ranks agree
  // through the store: where one of them cannot make, map or watch what it needs, all get Error(kUnsupported)
  // that names it and says why. Error(kTimeout) names a rank that has not come.
  Host(int rank, int size, Store* store, const CommunicatorOptions& options);
  // Leaves. The memory stays for the peers.
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // As many processors as ranks: whoever waits may spin.
  bool has_processor_for_every_rank() const { return has_processor_for_every_rank_; }
  Clock::duration timeout() const { return timeout_; }

  RankBlock& own() { return block(rank_); }
  RankBlock& block(int rank) { return at<RankBlock>(layout_.block(rank)); }
  Posted& posted(int rank) { return at<Posted>(layout_.posted(rank)); }
  Stages& stages(int rank) { return at<Stages>(layout_.stages(rank)); }
  Pipe& pipe(int from, int to) { return at<Pipe>(layout_.pipe(from, to)); }
  std::byte* pipe_slot(int from, int to, std::uint64_t index);
  // Before this rank first writes there. Error(kSystem) where there is no memory for it. For the thread that
  // drives the collectives, and the one that drives the pipes.
  void take_stages();
  void take_pipe(int to);
  Doorbell& doorbell(int rank, Lane lane) {
    return doorbells_[static_cast<std::size_t>(rank) * kLanes + static_cast<std::size_t>(lane)];
  }
  // After something was published that peers may wait for.
  void wake_peers(Lane lane) {
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_) doorbell(peer, lane).ring_if_waiting_for(rank_);
    }
  }

  // This rank gives up: the first cause counts. Wakes everybody.
  void fail(ErrorCode code, const std::string& why);
  bool has_failed() const { return has_failed_.load(); }
  Error cause() const;
  // Why nothing more can come from that peer; nothing while it runs. A system call: for slow paths.
  std::optional<std::string> why_gone(int peer);

 private:
  // The places in the segment, whose bytes are zero at first, as these types want to begin.
  template <typename Type>
  Type& at(std::size_t offset) {
    return *std::launder(reinterpret_cast<Type*>(segment_->data() + offset));
  }
  void meet(Store* store, const CommunicatorOptions& options);
  void enter(const std::string& segment_name);
  void wake_everybody();

  const int rank_;
  const int size_;
  const Clock::duration timeout_;
  const SegmentLayout layout_;
  std::optional<SharedSegment> segment_;  // rank 0 makes it
  bool has_stages_ = false;
  std::vector<bool> has_pipe_;       // to each rank
  std::vector<Doorbell> doorbells_;  // kLanes for each rank
  bool has_processor_for_every_rank_ = false;
  std::atomic<bool> has_failed_{false};
  mutable std::mutex mutex_;
  std::optional<Error> cause_;
  std::vector<std::optional<PeerProcess>> processes_;  // of each rank that was looked for
};

}  // namespace deepscale::shm
