#include "comm/store/connection.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <vector>

#include "comm/store/socket.h"

namespace deepscale {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

// An address that does not answer at all must not use up the time of the next one.
constexpr auto kAddressTime = std::chrono::seconds(5);

// An operation is aborted only where its deadline passed.
std::error_code outcome(error_code result) {
  return result == asio::error::operation_aborted ? std::make_error_code(std::errc::timed_out)
                                                  : std::error_code(result);
}

}  // namespace

struct StoreConnection::Io {
  asio::io_context context{1};
  tcp::socket socket{context};

  // Runs the operation that was just started to its end. At the deadline `cancel` ends it, with
  // operation_aborted.
  template <typename Cancel>
  void run(Deadline deadline, Cancel cancel) {
    context.restart();
    context.run_until(deadline.time());
    if (context.stopped()) return;
    cancel();
    context.run();
  }

  std::error_code wait_until_ready(tcp::socket::wait_type what, Deadline deadline) {
    error_code result;
    socket.async_wait(what, [&result](error_code failure) { result = failure; });
    run(deadline, [this] {
      error_code ignored;
      socket.cancel(ignored);
    });
    return outcome(result);
  }

  std::error_code resolve(const std::string& host, int port, Deadline deadline,
                          std::vector<tcp::endpoint>& endpoints) {
    error_code result;
    const auto numeric = asio::ip::make_address(host, result);
    if (!result) {
      endpoints.emplace_back(numeric, static_cast<asio::ip::port_type>(port));
      return result;
    }
    tcp::resolver resolver(context);
    resolver.async_resolve(host, std::to_string(port), tcp::resolver::numeric_service,
                           [&](error_code failure, const tcp::resolver::results_type& found) {
                             result = failure;
                             for (const auto& entry : found) endpoints.push_back(entry.endpoint());
                           });
    run(deadline, [&resolver] { resolver.cancel(); });
    return outcome(result);
  }

  std::error_code connect(const tcp::endpoint& endpoint, Deadline deadline) {
    error_code result;
    socket = tcp::socket(context);
    socket.open(endpoint.protocol(), result);
    if (result) return result;
    keep_from_children(socket.native_handle());
    socket.async_connect(endpoint, [&result](error_code failure) { result = failure; });
    run(deadline, [this] { socket = tcp::socket(context); });
    if (result) return outcome(result);
    // While nobody listens on a port that the system also gives to clients, a client may happen to connect to
    // itself.
    if (socket.local_endpoint(result) == endpoint) return std::make_error_code(std::errc::connection_refused);
    socket.non_blocking(true, result);
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    return result;
  }
};

StoreConnection::StoreConnection() : io_(std::make_unique<Io>()) {}
StoreConnection::~StoreConnection() = default;

std::error_code StoreConnection::connect(const std::string& host, int port, Deadline deadline) {
  std::vector<tcp::endpoint> endpoints;
  std::error_code result = io_->resolve(host, port, deadline, endpoints);
  for (const auto& endpoint : endpoints) {
    const auto limit = std::min(deadline.time(), Clock::now() + kAddressTime);
    result = io_->connect(endpoint, Deadline::at(limit));
    if (!result) return result;
  }
  close();
  return result;
}

std::error_code StoreConnection::send(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    error_code failure;
    bytes.remove_prefix(io_->socket.write_some(asio::buffer(bytes), failure));
    std::error_code result = failure;
    if (failure == asio::error::would_block)
      result = io_->wait_until_ready(tcp::socket::wait_write, deadline);
    if (result) return result;
  }
  return {};
}

std::error_code StoreConnection::receive(char* into, std::size_t size, Deadline deadline) {
  while (size > 0) {
    error_code failure;
    const std::size_t received = io_->socket.read_some(asio::buffer(into, size), failure);
    into += received;
    size -= received;
    std::error_code result = failure;
    if (failure == asio::error::would_block) result = io_->wait_until_ready(tcp::socket::wait_read, deadline);
    if (result) return result;
  }
  return {};
}

void StoreConnection::close() {
  error_code ignored;
  io_->socket.close(ignored);
}

}  // namespace deepscale
