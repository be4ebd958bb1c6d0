// Measures a server of c10d's TCPStore protocol, ours or torch's, from outside: launcher_bench.py runs it
// against both.
//
//   store_bench HOST PORT CLIENTS
//
// One thread plays all clients, each with a connection of its own. It writes to all of them before it reads
// from the first, so that the server sees them at the same time. Prints a line of JSON.
#include <fmt/core.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <deque>
#include <string>

#include "comm/base/clock.h"
#include "comm/store/wire.h"

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using deepscale::Clock;
using deepscale::StoreQueryKind;

constexpr std::size_t kBusyClients = 64;
constexpr int kRounds = 2000;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Clients {
 public:
  Clients(const std::string& host, int port)
      : server_(asio::ip::make_address(host), static_cast<asio::ip::port_type>(port)) {}

  void connect(std::size_t count) {
    while (sockets_.size() < count) {
      sockets_.emplace_back(context_);
      sockets_.back().connect(server_);
      sockets_.back().set_option(tcp::no_delay(true));
      send(sockets_.size() - 1, {.kind = StoreQueryKind::kValidate, .number = deepscale::kStoreMagic});
    }
  }

  void send(std::size_t client, const deepscale::StoreQuery& query) {
    asio::write(sockets_[client], asio::buffer(encode_store_query(query)));
  }

  // A reply of this many bytes.
  std::string receive(std::size_t client, std::size_t size) {
    std::string bytes(size, '\0');
    asio::read(sockets_[client], asio::buffer(bytes));
    return bytes;
  }

  // Connects all, counts them, and lets them wait for the last: what a job does when it starts.
  void join(std::size_t count) {
    connect(count);
    for (std::size_t i = 0; i < count; ++i) {
      send(i, {.kind = StoreQueryKind::kAdd, .keys = {"/joined"}, .number = 1});
      send(i, {.kind = StoreQueryKind::kWait, .keys = {"/all"}});
    }
    std::uint64_t most = 0;
    for (std::size_t i = 0; i < count; ++i) {
      most = std::max(most, deepscale::decode_store_integer(receive(i, 8)));
    }
    if (most != count) throw std::runtime_error(fmt::format("{} of {} clients were counted", most, count));
    send(0, {.kind = StoreQueryKind::kSet, .keys = {"/all"}, .values = {"1"}});
    for (std::size_t i = 0; i < count; ++i) receive(i, 1);
  }

  // Each client sets a key of its own and reads it back.
  void set_and_get(std::size_t count) {
    const std::string value(64, 'v');
    for (std::size_t i = 0; i < count; ++i) {
      const std::string key = fmt::format("/key{}", i);
      send(i, {.kind = StoreQueryKind::kSet, .keys = {key}, .values = {value}});
      send(i, {.kind = StoreQueryKind::kGet, .keys = {key}});
    }
    for (std::size_t i = 0; i < count; ++i) receive(i, 8 + value.size());
  }

 private:
  asio::io_context context_;
  const tcp::endpoint server_;
  std::deque<tcp::socket> sockets_;
};

void run(const std::string& host, int port, std::size_t count) {
  Clients clients(host, port);
  auto start = Clock::now();
  clients.join(count);
  const double join_seconds = seconds_since(start);
  const std::size_t busy = std::min(count, kBusyClients);
  start = Clock::now();
  for (int round = 0; round < kRounds; ++round) clients.set_and_get(busy);
  const double operations = 2.0 * kRounds * static_cast<double>(busy);
  fmt::print("{{\"join_seconds\": {:.4f}, \"operations_per_second\": {:.0f}}}\n", join_seconds,
             operations / seconds_since(start));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) throw std::runtime_error("usage: store_bench HOST PORT CLIENTS");
  run(argv[1], std::atoi(argv[2]), static_cast<std::size_t>(std::atoi(argv[3])));
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "store_bench: {}\n", error.what());
  return 1;
}
