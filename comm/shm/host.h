// The ranks of a communicator on one host: their shared memory, and who of them is still there.
//
//   connect -> running -- leave (destructor) --> left
//                 \------ fail() -------------> gave up, with a reason that the peers can read
//
// fail() and the questions may be called from any thread; nothing here blocks after the constructor.
#pragma once

#include <atomic>
#include <mutex>
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
  // Blocks until all ranks have mapped each other's memory, at most until options.timeout. The ranks agree
  // through the store: where one of them cannot make, map or watch what it needs, all get Error(kUnsupported)
  // that names it and says why. Error(kTimeout) names a rank that has not come.
  Host(int rank, int size, Store* store, const CommunicatorOptions& options);
  // Leaves. The memory stays for those peers that have mapped it.
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // As many processors as ranks: whoever waits may spin.
  bool has_processor_for_every_rank() const { return has_processor_for_every_rank_; }
  Clock::duration timeout() const { return timeout_; }

  RankBlock& own() { return block(rank_); }
  RankBlock& block(int rank) { return *blocks_[static_cast<std::size_t>(rank)]; }
  Pipe& pipe(int from, int to);
  std::byte* pipe_slot(int from, int to, std::uint64_t index);
  Doorbell& doorbell(int rank, Lane lane) {
    return doorbells_[static_cast<std::size_t>(rank) * kLanes + static_cast<std::size_t>(lane)];
  }
  // After something was published that peers may wait for.
  void wake_peers(Lane lane) {
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_) doorbell(peer, lane).ring_if_asleep();
    }
  }

  // This rank gives up: the first cause counts. Wakes everybody.
  void fail(ErrorCode code, const std::string& why);
  bool has_failed() const { return has_failed_.load(); }
  Error cause() const;
  // Why nothing more can come from that peer; nothing while it runs. A system call: for slow paths.
  std::optional<std::string> why_gone(int peer);

 private:
  SharedSegment make_own();
  void open_peer(int peer, const std::string& name);
  void ring_everybody();

  const int rank_;
  const int size_;
  const Clock::duration timeout_;
  std::vector<std::optional<SharedSegment>> segments_;  // by rank, like the following
  std::vector<RankBlock*> blocks_;
  std::vector<Doorbell> doorbells_;  // kLanes for each rank
  std::vector<std::optional<PeerProcess>> processes_;
  bool has_processor_for_every_rank_ = false;
  std::atomic<bool> has_failed_{false};
  mutable std::mutex mutex_;
  std::optional<Error> cause_;
};

}  // namespace deepscale::shm
