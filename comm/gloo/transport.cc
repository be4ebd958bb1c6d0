#include "comm/gloo/transport.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

#include "comm/base/error.h"
#include "comm/shm/host_rendezvous.h"

namespace deepscale::gloo {

namespace {

constexpr auto kLongestTimeout = std::chrono::milliseconds(kLongestMilliseconds);
constexpr std::size_t kFarewellBytes = 1000;
constexpr auto kFarewellTime = std::chrono::milliseconds(100);

std::int64_t milliseconds_until(Deadline deadline) {
  return std::chrono::ceil<std::chrono::milliseconds>(deadline.remaining()).count();
}

TransferRequest request_of(const Buffer& buffer, int peer, Lane lane) {
  return {
      .peer = peer, .slot = static_cast<std::uint64_t>(lane), .data = buffer.data, .bytes = buffer.bytes()};
}

Buffer as_buffer(std::string& text) {
  return {text.data(), static_cast<std::int64_t>(text.size()), DType::kUInt8};
}

// As text, since the store's values are read as lines.
std::string to_hex(const char* bytes, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += fmt::format("{:02x}", static_cast<unsigned char>(bytes[i]));
  return text;
}

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

}  // namespace

TransferRequest sending(const Buffer& buffer, int peer, Lane lane) {
  TransferRequest request = request_of(buffer, peer, lane);
  request.sends = true;
  return request;
}

TransferRequest receiving(const Buffer& buffer, int peer, Lane lane) {
  return request_of(buffer, peer, lane);
}

Transport::Transport(int rank, int world_size, Store* store, const CommunicatorOptions& options)
    : rank_(rank), size_(world_size), timeout_(std::min<Clock::duration>(options.timeout, kLongestTimeout)) {
  if (world_size == 1) return;
  const shm::Round round{*store, rank, world_size, options.name + "/gloo", Deadline::after(timeout_)};
  connect(shm::agree(round, [&] { return listen(options, round.deadline); }));
  expect_farewells();
}

Transport::~Transport() = default;

// Returns an address for every peer, since Gloo listens for each of them.
std::string Transport::listen(const CommunicatorOptions& options, Deadline deadline) {
  functions_ = &open_module();
  const std::string address = options.listen_address.empty() ? "127.0.0.1" : options.listen_address;
  const MeshRequest request{.rank = rank_,
                            .size = size_,
                            .listen_address = address.c_str(),
                            .connect_timeout_milliseconds = milliseconds_until(deadline)};
  Mesh* mesh = nullptr;
  if (const char* why = functions_->create(&request, &mesh))
    throw Error(ErrorCode::kSystem, fmt::format("Gloo cannot listen on {}: {}", address, why));
  mesh_ = {mesh, functions_->destroy};
  std::vector<std::string> own(static_cast<std::size_t>(size_), "-");
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    char bytes[kAddressBytes];
    own[peer] = to_hex(bytes, functions_->address(mesh, peer, bytes));
  }
  return fmt::format("{}", fmt::join(own, " "));
}

void Transport::connect(const std::vector<std::string>& addresses) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    std::istringstream words(addresses[peer]);
    std::string word;
    for (int i = 0; i <= rank_; ++i) words >> word;
    const std::string address = from_hex(word);
    if (const char* why = functions_->connect(mesh_.get(), peer, address.data(), address.size())) {
      throw Error(ErrorCode::kPeerLost,
                  fmt::format("rank {} of {}: Gloo cannot connect with rank {}: {}; does the network between "
                              "the nodes let TCP through?",
                              rank_, size_, peer, why));
    }
  }
}

void Transport::expect_farewells() {
  farewells_.assign(size_, std::string(kFarewellBytes, '\0'));
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) {
      farewell_transfers_.push_back({nullptr, nullptr});
      continue;
    }
    TransferRequest request = receiving(as_buffer(farewells_[peer]), peer, Lane::kFarewells);
    request.timeout_milliseconds = kLongestMilliseconds;
    farewell_transfers_.push_back(start(request));
  }
}

Transport::TransferPointer Transport::start(const TransferRequest& request) const {
  return {functions_->start(mesh_.get(), &request), functions_->release};
}

void Transport::exchange(std::vector<TransferRequest> messages, const std::string& operation,
                         Deadline deadline) {
  std::vector<TransferPointer> transfers;
  for (TransferRequest& message : messages) {
    message.timeout_milliseconds = milliseconds_until(deadline);
    transfers.push_back(start(message));
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const int peer = messages[i].peer;
    const char* why = "";
    switch (functions_->wait(transfers[i].get(), &why)) {
      case Outcome::kDone:
        break;
      case Outcome::kAborted:
        throw Error(ErrorCode::kAborted, "the communicator was aborted");
      case Outcome::kTimeout:
        throw Error(ErrorCode::kTimeout,
                    fmt::format("{} did not finish within {:g} s; it waits for rank {}", operation,
                                std::chrono::duration<double>(timeout_).count(), peer));
      case Outcome::kConnectionLost:
        throw Error(ErrorCode::kPeerLost,
                    fmt::format("lost rank {} during {}: {}; what ended it stands in its own output", peer,
                                operation, why_lost(peer, why)));
    }
  }
}

// The connection with `peer` is lost.
std::string Transport::why_lost(int peer, const std::string& text) const {
  const char* ignored = "";
  const bool said_why = functions_->wait(farewell_transfers_[peer].get(), &ignored) == Outcome::kDone;
  return said_why ? fmt::format("it gave up: {}", farewells_[peer].c_str()) : text;
}

void Transport::abort(const std::string& reason) {
  if (mesh_ == nullptr) return;
  std::string text = reason.substr(0, kFarewellBytes - 1);
  text.resize(kFarewellBytes);
  std::vector<TransferPointer> farewells;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    TransferRequest request = sending(as_buffer(text), peer, Lane::kFarewells);
    request.timeout_milliseconds = kFarewellTime.count();
    farewells.push_back(start(request));
  }
  const char* ignored = "";
  for (const auto& farewell : farewells) functions_->wait(farewell.get(), &ignored);
  functions_->abort(mesh_.get());
}

}  // namespace deepscale::gloo
