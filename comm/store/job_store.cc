// join_job_store(): who serves the store of a job, where, and how its ranks find it.
//
// Where rank 0 serves, all ranks meet before any leaves: rank 0 waits for "join/all", which the last of the
// others sets, and then sets "join/ready", for which the others wait. So rank 0 knows when the rendezvous
// file has served, and no rank goes on alone.
#include <fmt/core.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "comm/base/error.h"
#include "comm/store/rendezvous.h"
#include "comm/store/store.h"
#include "comm/store/store_server.h"

namespace deepscale {

namespace {

constexpr const char* kLoopback = "127.0.0.1";
constexpr auto kFarewellTime = std::chrono::seconds(3);
constexpr auto kFileRetry = std::chrono::milliseconds(5);
constexpr auto kPublishedPortTime = std::chrono::seconds(1);

struct ServingAddress {
  std::vector<std::string> listen;  // the first of these that the machine has
  std::string connect;              // where rank 0 itself finds it
};

ServingAddress serving_address(const std::string& master_addr) {
  if (master_addr.empty() || master_addr == "localhost" || master_addr.rfind("127.", 0) == 0) {
    return {{kLoopback}, kLoopback};
  }
  if (master_addr == "::1") return {{"::1"}, "::1"};
  // Other nodes may know this one by another address than it knows itself, so it listens on all; "::" takes
  // IPv4 too.
  return {{"::", "0.0.0.0"}, kLoopback};
}

std::unique_ptr<HostedStoreServer> serve(const WorldLayout& layout, const Logger& logger) {
  const auto addresses = serving_address(layout.master_addr).listen;
  for (const auto& address : addresses) {
    try {
      auto server = std::make_unique<HostedStoreServer>(
          StoreServerOptions{.address = address, .port = layout.master_port, .logger = logger});
      logger.debug("rank 0 serves the job's store on {}, port {}", address, server->port());
      return server;
    } catch (const Error&) {
      if (address == addresses.back()) throw;
    }
  }
  throw Error(ErrorCode::kInternal, "the store of rank 0 has no address to listen on");
}

std::shared_ptr<Store> connect(const WorldLayout& layout, const std::string& host, int port,
                               Deadline deadline) {
  return with_prefix(connect_store(host, port, deadline), fmt::format("deepscale/{}", layout.generation));
}

// Rank 0's end: the server in this process, this rank's own connection to it, and the file that tells where
// it is.
class ServedStore {
 public:
  ServedStore(const WorldLayout& layout, const Logger& logger, Deadline deadline)
      : server_(serve(layout, logger)),
        client_(connect(layout, serving_address(layout.master_addr).connect, server_->port(), deadline)) {}

  ~ServedStore() {
    withdraw_file();
    client_.reset();
    // Ranks that are still finishing must not find the store gone; ranks that hang must not keep this one for
    // long.
    if (all_joined_) server_->wait_until_idle(Deadline::after(kFarewellTime));
  }
  ServedStore(const ServedStore&) = delete;
  ServedStore& operator=(const ServedStore&) = delete;

  void publish_file(StartedBy started_by) {
    file_ = rendezvous_file(started_by);
    publish_port(file_, server_->port());
  }

  void meet_all(const WorldLayout& layout, Deadline deadline) {
    try {
      client_->wait({"join/all"}, deadline);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kTimeout) throw;
      throw Error(ErrorCode::kTimeout,
                  fmt::format("{} of {} ranks had joined the store of rank 0 on port {} by the deadline; "
                              "see whether the others started, and whether they have the same MASTER_ADDR "
                              "and MASTER_PORT",
                              client_->add("join/count", 0) + 1, layout.world_size, server_->port()));
    }
    // Before anyone goes on: who joins again later must not find this file.
    withdraw_file();
    client_->set("join/ready", "1");
    all_joined_ = true;
  }

  Store& client() { return *client_; }

 private:
  void withdraw_file() {
    std::error_code ignored;
    if (!file_.empty()) std::filesystem::remove(std::exchange(file_, {}), ignored);
  }

  std::unique_ptr<HostedStoreServer> server_;
  std::shared_ptr<Store> client_;
  std::filesystem::path file_;
  bool all_joined_ = false;
};

std::shared_ptr<Store> serve_job(const WorldLayout& layout, const Logger& logger, Deadline deadline) {
  auto served = std::make_shared<ServedStore>(layout, logger, deadline);
  if (layout.master_addr.empty()) served->publish_file(layout.started_by);
  served->meet_all(layout, deadline);
  return {served, &served->client()};
}

std::shared_ptr<Store> connect_by_file(const WorldLayout& layout, Deadline deadline) {
  const auto file = rendezvous_file(layout.started_by);
  for (;;) {
    if (const auto port = published_port(file)) {
      try {
        const auto limit = std::min(deadline.time(), Clock::now() + kPublishedPortTime);
        return connect(layout, kLoopback, *port, Deadline::at(limit));
      } catch (const Error& error) {
        // A file that an earlier job left behind: rank 0 is going to replace it.
        if (error.code() != ErrorCode::kTimeout) throw;
      }
    }
    if (deadline.has_passed()) {
      throw Error(
          ErrorCode::kTimeout,
          fmt::format(
              "rank {} found no store of rank 0 through {} before the deadline; it works for ranks that one "
              "process of this host starts directly, or that mpirun or srun starts: otherwise set "
              "MASTER_ADDR "
              "and MASTER_PORT, the same for all ranks",
              layout.rank, file.string()));
    }
    std::this_thread::sleep_for(std::min<Clock::duration>(kFileRetry, deadline.remaining()));
  }
}

std::shared_ptr<Store> join_rank_zero(const WorldLayout& layout, Deadline deadline) {
  auto store = layout.master_addr.empty() ? connect_by_file(layout, deadline)
                                          : connect(layout, layout.master_addr, layout.master_port, deadline);
  if (store->add(fmt::format("join/rank/{}", layout.rank), 1) != 1) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format(
            "rank {} joined its job's store twice: two jobs meet in one store; give each its own MASTER_PORT",
            layout.rank));
  }
  if (store->add("join/count", 1) == layout.world_size - 1) store->set("join/all", "1");
  store->wait({"join/ready"}, deadline);
  return store;
}

void require_meeting_place(const WorldLayout& layout) {
  const auto refuse = [](const std::string& why) { throw Error(ErrorCode::kInvalidArgument, why); };
  const bool has_address = !layout.master_addr.empty();
  const bool has_port = layout.master_port != 0;
  if (layout.world_size == 1) refuse("a job of one rank has nobody to share a store with");
  if (has_address != has_port) {
    refuse("only one of MASTER_ADDR and MASTER_PORT is set; set both, to the same values on all ranks");
  }
  if (layout.launcher_serves_store && !has_address) {
    refuse(
        "TORCHELASTIC_USE_AGENT_STORE=True says that the launcher serves the store, but MASTER_ADDR and "
        "MASTER_PORT do not "
        "say where");
  }
  if (layout.node_count > 1 && !has_address) {
    refuse(fmt::format(
        "the ranks run on {} nodes and nothing tells them where to meet: set MASTER_ADDR to the host name of "
        "rank 0's node and MASTER_PORT to a port that is free there, the same on all ranks",
        layout.node_count));
  }
}

}  // namespace

std::shared_ptr<Store> join_job_store(const WorldLayout& layout, const Logger& logger, Deadline deadline) {
  require_meeting_place(layout);
  if (layout.launcher_serves_store) return connect(layout, layout.master_addr, layout.master_port, deadline);
  return layout.rank == 0 ? serve_job(layout, logger, deadline) : join_rank_zero(layout, deadline);
}

}  // namespace deepscale
