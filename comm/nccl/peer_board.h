// What the ranks of an NCCL communicator tell each other through the store, where NCCL says nothing: that a
// rank gave up, and which of its messages it has started. For any thread; blocks as the store does. Without a
// store nobody is told, and nobody told anything.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "comm/store/store.h"

namespace deepscale::nccl {

// Messages between two ranks in one direction, seen from one of them. They have the numbers 1, 2, 3 ...
struct Route {
  int peer = -1;
  bool is_send = false;
};

class PeerBoard {
 public:
  PeerBoard(std::shared_ptr<Store> store, const std::string& name, int rank);

  void tell_failure(const std::string& why) noexcept;
  // Why a rank gave up, or the store is lost; empty while neither happened.
  std::optional<std::string> failure();

  // That this rank has started its messages of the route up to this one.
  void tell_started(const Route& route, std::uint64_t number);
  // Whether the peer has started its end of that message. Error of the store.
  bool has_peer_started(const Route& route, std::uint64_t number);

 private:
  std::string key(int rank, bool is_send, int peer) const;

  const std::shared_ptr<Store> store_;
  const std::string prefix_;
  const int rank_;
};

}  // namespace deepscale::nccl
