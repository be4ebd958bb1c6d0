// Messages between the ranks of a communicator through Gloo's connections.
//
// Any thread may call anything. Outlives every call of exchange().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/gloo/module.h"

namespace deepscale::gloo {

// Messages of different lanes do not wait for each other.
enum class Lane : std::uint64_t { kCollectives, kMessages, kFarewells };

TransferRequest sending(const Buffer& buffer, int peer, Lane lane);
TransferRequest receiving(const Buffer& buffer, int peer, Lane lane);

class Transport {
 public:
  // Joins the other ranks: blocks until all have come, at most for the timeout. Error(kTimeout) names who has
  // not; Error(kUnsupported) on all of them together when one of them has no Gloo.
  // `store` may be null for one rank.
  Transport(int rank, int world_size, Store* store, const CommunicatorOptions& options);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Blocks until all messages are through, at most until the deadline: Error(kTimeout) and kPeerLost name the
  // rank, kAborted comes from abort(). `operation` is for these texts.
  void exchange(std::vector<TransferRequest> messages, const std::string& operation, Deadline deadline);

  // Ends every exchange(), and tells the peers why, which takes 0.1 s where a peer does not listen.
  void abort(const std::string& reason);

 private:
  using TransferPointer = std::unique_ptr<Transfer, void (*)(Transfer*)>;

  TransferPointer start(const TransferRequest& request) const;
  std::string listen(const CommunicatorOptions& options, Deadline deadline);
  void connect(const std::vector<std::string>& addresses);
  void expect_farewells();
  std::string why_lost(int peer, const std::string& text) const;

  const int rank_;
  const int size_;
  const Clock::duration timeout_;
  const Functions* functions_ = nullptr;
  std::unique_ptr<Mesh, void (*)(Mesh*)> mesh_{nullptr, nullptr};
  std::vector<std::string> farewells_;  // why each rank gave up
  std::vector<TransferPointer> farewell_transfers_;
};

}  // namespace deepscale::gloo
