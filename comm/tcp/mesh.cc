#include "comm/tcp/mesh.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <optional>
#include <random>
#include <sstream>

#include "comm/base/error.h"
#include "comm/message_header.h"
#include "comm/store/socket.h"

namespace deepscale::tcp {

namespace {

namespace asio = boost::asio;
using Socket = asio::ip::tcp::socket;
using Endpoint = asio::ip::tcp::endpoint;
using ErrorValue = boost::system::error_code;
using Ticket = std::array<char, 32>;

constexpr std::uint32_t kProtocolVersion = 1;

struct Greeting {
  std::uint32_t magic = kMessageMagic;
  std::uint32_t version = kProtocolVersion;
  std::int32_t rank = 0;
  std::int32_t world_size = 0;
  Ticket ticket{};
};
static_assert(std::is_trivially_copyable_v<Greeting> && sizeof(Greeting) == 48);

Ticket make_ticket() {
  std::random_device random;
  std::uniform_int_distribution<int> digit(0, 15);
  Ticket ticket;
  for (char& letter : ticket) letter = "0123456789abcdef"[digit(random)];
  return ticket;
}

// What a rank publishes: "address port ticket".
struct Contact {
  Endpoint endpoint;
  Ticket ticket{};
};

std::string format_contact(const Contact& contact) {
  return fmt::format("{} {} {}", contact.endpoint.address().to_string(), contact.endpoint.port(),
                     std::string_view(contact.ticket.data(), contact.ticket.size()));
}

std::optional<Contact> parse_contact(const std::string& text) {
  std::istringstream words(text);
  std::string address_text, ticket_text;
  unsigned short port = 0;
  words >> address_text >> port >> ticket_text;
  ErrorValue failure;
  const auto address = asio::ip::make_address(address_text, failure);
  Contact contact{.endpoint = Endpoint(address, port)};
  if (!words || failure || ticket_text.size() != contact.ticket.size()) return std::nullopt;
  ticket_text.copy(contact.ticket.data(), contact.ticket.size());
  return contact;
}

std::string reason_of(const ErrorValue& failure) {
  if (failure == asio::error::eof) return "it closed the connection";
  return failure.message();
}

auto wrap(Connection::Handler handler) {
  return [handler = std::move(handler)](const ErrorValue& failure, std::size_t bytes) {
    handler(failure ? reason_of(failure) : std::string(), bytes);
  };
}

class TcpConnection final : public Connection {
 public:
  explicit TcpConnection(Socket socket) : socket_(std::move(socket)) {
    ErrorValue ignored;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  }

  void read_some(std::span<std::byte> room, Handler handler) override {
    socket_.async_read_some(asio::buffer(room.data(), room.size()), wrap(std::move(handler)));
  }
  void write_some(std::span<const std::byte> first, std::span<const std::byte> second,
                  Handler handler) override {
    const std::array buffers{asio::buffer(first.data(), first.size()),
                             asio::buffer(second.data(), second.size())};
    socket_.async_write_some(buffers, wrap(std::move(handler)));
  }
  void cancel() override {
    ErrorValue ignored;
    socket_.cancel(ignored);
  }
  void end_writing() override {
    ErrorValue ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
  void close() override {
    ErrorValue ignored;
    socket_.close(ignored);
  }

 private:
  Socket socket_;
};

class Rendezvous {
 public:
  Rendezvous(asio::io_context& context, Store& store, const MeshOptions& options)
      : context_(context),
        store_(store),
        options_(options),
        listener_(context),
        sockets_(options.world_size) {}

  std::vector<std::unique_ptr<Connection>> run() {
    listen_and_publish();
    accept_next();
    for (int peer = 0; peer < options_.rank; ++peer) connect_to(peer);
    while (!error_ && !missing_ranks().empty() && context_.run_one_until(options_.deadline.time()) > 0) {
    }
    const auto missing = missing_ranks();
    leave_context();
    if (error_) throw *error_;
    if (!missing.empty()) {
      throw Error(ErrorCode::kTimeout, fmt::format("{}: no connection with rank {} before the deadline; are "
                                                   "all ranks running, and does the network "
                                                   "between the nodes let TCP through?",
                                                   where(), fmt::join(missing, ", ")));
    }
    std::vector<std::unique_ptr<Connection>> connections(sockets_.size());
    for (std::size_t peer = 0; peer < sockets_.size(); ++peer) {
      if (sockets_[peer]) connections[peer] = std::make_unique<TcpConnection>(std::move(*sockets_[peer]));
    }
    return connections;
  }

 private:
  // A connection that is not known to be a peer's yet.
  struct Candidate {
    explicit Candidate(Socket opened) : socket(std::move(opened)) {}
    Socket socket;
    Greeting received;
    Greeting sent;
  };
  using CandidatePointer = std::shared_ptr<Candidate>;

  std::string where() const {
    return fmt::format("rank {} of {}, rendezvous of the communicator '{}'", options_.rank,
                       options_.world_size, options_.name);
  }
  std::string key_of(int rank) const { return fmt::format("communicator/{}/rank {}", options_.name, rank); }

  void listen_and_publish() {
    ErrorValue failure;
    const auto address = asio::ip::make_address(options_.listen_address, failure);
    if (!failure) listener_.open(Endpoint(address, 0).protocol(), failure);
    if (!failure) keep_from_children(listener_.native_handle());
    if (!failure) listener_.bind(Endpoint(address, 0), failure);
    if (!failure) listener_.listen(Socket::max_listen_connections, failure);
    if (failure) {
      throw Error(ErrorCode::kSystem, fmt::format("{}: cannot listen on {}: {}", where(),
                                                  options_.listen_address, failure.message()));
    }
    store_.set(key_of(options_.rank), format_contact({listener_.local_endpoint(), ticket_}));
  }

  Greeting make_greeting(const Ticket& ticket) const {
    return {.rank = options_.rank, .world_size = options_.world_size, .ticket = ticket};
  }

  CandidatePointer add_candidate(Socket socket) {
    keep_from_children(socket.native_handle());
    return candidates_.emplace_back(std::make_shared<Candidate>(std::move(socket)));
  }

  void accept_next() {
    listener_.async_accept([this](const ErrorValue& failure, Socket socket) {
      if (failure == asio::error::operation_aborted) return;
      if (failure) return fail(ErrorCode::kSystem, "cannot accept a connection: " + failure.message());
      receive_greeting(add_candidate(std::move(socket)));
      accept_next();
    });
  }

  void receive_greeting(const CandidatePointer& candidate) {
    asio::async_read(candidate->socket, asio::buffer(&candidate->received, sizeof(Greeting)),
                     [this, candidate](const ErrorValue& failure, std::size_t) {
                       if (!failure) answer(candidate);
                     });
  }

  void answer(const CandidatePointer& candidate) {
    const Greeting& greeting = candidate->received;
    if (greeting.magic != kMessageMagic || greeting.ticket != ticket_) {
      options_.logger.warning("{}: refused a connection from a stranger", where());
      candidate->socket.close();
      return;
    }
    candidate->sent = make_greeting(greeting.ticket);
    asio::async_write(candidate->socket, asio::buffer(&candidate->sent, sizeof(Greeting)),
                      [this, candidate](const ErrorValue& failure, std::size_t) {
                        if (!failure) adopt(candidate, candidate->received.rank);
                      });
  }

  void connect_to(int peer) {
    const Contact contact = fetch(peer);
    const auto fail_to_connect = [=, this](const ErrorValue& failure) {
      fail_to_reach(peer, fmt::format("{} port {}: {}", contact.endpoint.address().to_string(),
                                      contact.endpoint.port(), reason_of(failure)));
    };
    Socket socket(context_);
    ErrorValue failed_to_open;
    socket.open(contact.endpoint.protocol(), failed_to_open);
    if (failed_to_open) return fail_to_connect(failed_to_open);
    const auto candidate = add_candidate(std::move(socket));
    candidate->sent = make_greeting(contact.ticket);
    candidate->socket.async_connect(contact.endpoint, [=, this](const ErrorValue& failure) {
      failure ? fail_to_connect(failure) : greet(candidate, peer);
    });
  }

  Contact fetch(int peer) {
    std::string published;
    try {
      published = store_.get(key_of(peer), options_.deadline);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: rank {} has not come: {}", where(), peer, error.what()));
    }
    if (const auto contact = parse_contact(published)) return *contact;
    throw Error(ErrorCode::kProtocol, fmt::format("{}: the store holds '{}' under '{}', which is no address",
                                                  where(), published, key_of(peer)));
  }

  void greet(const CandidatePointer& candidate, int peer) {
    asio::async_write(candidate->socket, asio::buffer(&candidate->sent, sizeof(Greeting)),
                      [=, this](const ErrorValue& failure, std::size_t) {
                        if (failure) return fail_to_reach(peer, reason_of(failure));
                        receive_answer(candidate, peer);
                      });
  }

  void receive_answer(const CandidatePointer& candidate, int peer) {
    asio::async_read(candidate->socket, asio::buffer(&candidate->received, sizeof(Greeting)),
                     [=, this](const ErrorValue& failure, std::size_t) {
                       if (failure) return fail_to_reach(peer, reason_of(failure));
                       adopt(candidate, peer);
                     });
  }

  void adopt(const CandidatePointer& candidate, int peer) {
    const Greeting& greeting = candidate->received;
    if (greeting.magic != kMessageMagic || greeting.version != kProtocolVersion) {
      return fail(ErrorCode::kProtocol, fmt::format("rank {} speaks version {} of the protocol and this rank "
                                                    "version {}; run the same build everywhere",
                                                    peer, greeting.version, kProtocolVersion));
    }
    if (greeting.rank != peer || greeting.world_size != options_.world_size || peer < 0 ||
        peer >= options_.world_size) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("a peer says it is rank {} of {}", greeting.rank, greeting.world_size));
    }
    if (sockets_[peer] || peer == options_.rank) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("two processes say they are rank {}", peer));
    }
    sockets_[peer] = std::move(candidate->socket);
  }

  void fail_to_reach(int peer, const std::string& why) {
    fail(ErrorCode::kPeerLost, fmt::format("cannot connect to rank {}: {}", peer, why));
  }

  void fail(ErrorCode code, const std::string& what) {
    if (!error_) error_.emplace(code, fmt::format("{}: {}", where(), what));
  }

  std::vector<int> missing_ranks() const {
    std::vector<int> missing;
    for (int peer = 0; peer < options_.world_size; ++peer) {
      if (peer != options_.rank && !sockets_[peer]) missing.push_back(peer);
    }
    return missing;
  }

  // Lets every handler of this object run out, so that none is left on the context.
  void leave_context() {
    ErrorValue ignored;
    listener_.close(ignored);
    for (const CandidatePointer& candidate : candidates_) candidate->socket.close(ignored);
    context_.restart();
    context_.run();
    context_.restart();
  }

  asio::io_context& context_;
  Store& store_;
  const MeshOptions& options_;
  const Ticket ticket_ = make_ticket();
  asio::ip::tcp::acceptor listener_;
  std::vector<CandidatePointer> candidates_;
  std::vector<std::optional<Socket>> sockets_;  // of the peers that are connected
  std::optional<Error> error_;
};

}  // namespace

std::vector<std::unique_ptr<Connection>> connect_mesh(asio::io_context& context, Store& store,
                                                      const MeshOptions& options) {
  return Rendezvous(context, store, options).run();
}

}  // namespace deepscale::tcp
