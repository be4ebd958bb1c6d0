// How the ranks of a communicator connect to each other: one TCP connection for every pair.
//
//   every rank   listens, and publishes "address port ticket" in the store; the ticket is random
//   rank r       fetches that of every lower rank, connects, and shows the ticket in a greeting
//   lower rank   answers with a greeting of its own, and the pair is connected
//
// A connection that does not show the ticket is closed and forgotten, so strangers that happen on the port do
// no harm. Whoever shows it but has another protocol version or world size fails the rendezvous on both
// sides.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/world_layout.h"
#include "comm/store/store.h"
#include "comm/tcp/connection.h"

namespace boost::asio {
class io_context;
}

namespace deepscale::tcp {

struct MeshOptions {
  int rank = 0;
  int world_size = 1;
  std::string name;            // of the communicator: the prefix of its keys in the store
  std::string listen_address;  // numeric
  Deadline deadline = Deadline::never();
  Logger logger;
};

// Blocks until the mesh is complete, at most until the deadline: Error(kTimeout) names the ranks that are
// missing, kPeerLost the one that cannot be reached. Runs `context`, which nobody else may run meanwhile; the
// connections live on it. Element r is the connection to rank r; the own one is null.
std::vector<std::unique_ptr<Connection>> connect_mesh(boost::asio::io_context& context, Store& store,
                                                      const MeshOptions& options);

// The numeric address where a rank of this job listens: that of the interface through which it reaches
// MASTER_ADDR, so loopback when that is this host and all ranks are here, or when it is not set.
std::string choose_listen_address(const WorldLayout& layout);

}  // namespace deepscale::tcp
