#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>

#include <fmt/core.h>

#include "comm/base/error.h"
#include "comm/tcp/mesh.h"

namespace deepscale::tcp {

namespace {

namespace asio = boost::asio;
using asio::ip::udp;

// Connecting a datagram socket sends nothing; it makes the system choose the interface.
asio::ip::address local_address_towards(asio::io_context& context, const udp::endpoint& remote) {
  boost::system::error_code failure;
  udp::socket socket(context);
  socket.open(remote.protocol(), failure);
  if (!failure) socket.connect(remote, failure);
  if (failure) return {};
  return socket.local_endpoint(failure).address();
}

}  // namespace

std::string choose_listen_address(const WorldLayout& layout) {
  if (layout.master_addr.empty()) return "127.0.0.1";
  asio::io_context context;
  udp::resolver resolver(context);
  boost::system::error_code failure;
  const auto found = resolver.resolve(layout.master_addr, "9", udp::resolver::numeric_service, failure);
  if (failure) {
    throw Error(ErrorCode::kNotFound, fmt::format("MASTER_ADDR={}: the name cannot be resolved: {}",
                                                  layout.master_addr, failure.message()));
  }
  std::vector<udp::endpoint> remotes;
  for (const auto& entry : found) remotes.push_back(entry.endpoint());
  // Some systems resolve their own host name to loopback; other nodes need the interface of the default route
  // then.
  if (layout.node_count > 1) remotes.emplace_back(asio::ip::make_address("192.0.2.1"), 9);
  for (const udp::endpoint& remote : remotes) {
    const asio::ip::address address = local_address_towards(context, remote);
    if (address.is_unspecified() || (address.is_loopback() && layout.node_count > 1)) continue;
    return address.to_string();
  }
  throw Error(ErrorCode::kSystem,
              fmt::format("no network interface of this host leads to MASTER_ADDR={}; is the network up?",
                          layout.master_addr));
}

}  // namespace deepscale::tcp
