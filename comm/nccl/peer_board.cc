#include "comm/nccl/peer_board.h"

#include <fmt/core.h>

#include "comm/base/error.h"

namespace deepscale::nccl {

namespace {

constexpr auto kPatience = std::chrono::seconds(1);  // for the value of a key that is there

}  // namespace

PeerBoard::PeerBoard(std::shared_ptr<Store> store, const std::string& name, int rank)
    : store_(std::move(store)), prefix_(fmt::format("nccl/{}", name)), rank_(rank) {}

void PeerBoard::tell_failure(const std::string& why) noexcept {
  try {
    if (store_ != nullptr) store_->set(prefix_ + "/failure", fmt::format("rank {} gave up: {}", rank_, why));
  } catch (const std::exception&) {
    // The store has gone, and with it the job.
  }
}

std::optional<std::string> PeerBoard::failure() {
  try {
    const std::string failure_key = prefix_ + "/failure";
    if (store_ == nullptr || !store_->check({failure_key})) return std::nullopt;
    return store_->get(failure_key, Deadline::after(kPatience));
  } catch (const Error& error) {
    return fmt::format("the store of the job is lost: {}", error.what());
  }
}

void PeerBoard::tell_started(const Route& route, std::uint64_t number) {
  if (store_ != nullptr) store_->set(key(rank_, route.is_send, route.peer), std::to_string(number));
}

bool PeerBoard::has_peer_started(const Route& route, std::uint64_t number) {
  if (store_ == nullptr) return false;
  const std::string of_peer = key(route.peer, !route.is_send, rank_);
  if (!store_->check({of_peer})) return false;
  return std::stoull(store_->get(of_peer, Deadline::after(kPatience))) >= number;
}

std::string PeerBoard::key(int rank, bool is_send, int peer) const {
  return fmt::format("{}/rank {} has started {} {}", prefix_, rank, is_send ? "sends to" : "receives from",
                     peer);
}

}  // namespace deepscale::nccl
