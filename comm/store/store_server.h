// The rendezvous key-value store, seen from whoever serves it: the launcher, or rank 0 when there is no
// launcher.
//
// A StoreServer lives on an io_context that its owner runs and must outlive it; all methods belong to the
// thread that runs that context. It listens from construction on (Error(kSystem) names the address when it
// cannot), so its port is held and known before any rank starts. Memory is bounded: a key or value beyond the
// limits, or a malformed query, ends that connection and nothing else. Destruction closes everything; waiting
// clients see the connection end.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "comm/base/clock.h"
#include "comm/base/log.h"

namespace boost::asio {
class io_context;
}

namespace deepscale {

struct StoreServerOptions {
  std::string address = "127.0.0.1";  // numeric; "0.0.0.0" or "::" for all interfaces
  int port = 0;                       // 0: any free one; read it back with port()
  std::size_t max_key_bytes = 64 * 1024;
  std::size_t max_value_bytes = 256 * 1024 * 1024;
  Logger logger;
};

class StoreServer {
 public:
  StoreServer(boost::asio::io_context& context, StoreServerOptions options);
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  int port() const;
  std::size_t connection_count() const;
  // Calls back once, as soon as no client is connected: at once, or when the last one has left.
  void call_when_idle(std::function<void()> callback);

 private:
  class State;
  std::shared_ptr<State> state_;
};

// A StoreServer with a thread of its own. Any thread may make, read and destroy it.
class HostedStoreServer {
 public:
  explicit HostedStoreServer(StoreServerOptions options);
  ~HostedStoreServer();
  HostedStoreServer(const HostedStoreServer&) = delete;
  HostedStoreServer& operator=(const HostedStoreServer&) = delete;

  int port() const;
  // True when no client is connected any more; false when the deadline passed before.
  bool wait_until_idle(Deadline deadline);

 private:
  struct Running;
  std::unique_ptr<Running> running_;
};

}  // namespace deepscale
