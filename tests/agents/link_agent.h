// An agent that only listens for the links of its ranks, for tests whose ranks are threads.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <thread>

#include "agents/link/link_address.h"
#include "agents/link/link_server.h"
#include "comm/base/clock.h"
#include "comm/base/environment.h"

namespace deepscale::testing {

// An agent of `rank_count` ranks, on a thread of its own.
class LinkAgent {
 public:
  explicit LinkAgent(std::size_t rank_count, int generation = 0) : generation_(generation) {
    server_.emplace(io_, LinkServerOptions{.rank_count = rank_count, .generation = generation});
    thread_ = std::thread([this] { io_.run(); });
  }
  // Runs it on the agent's thread.
  template <typename Call>
  auto on_thread(Call call) {
    std::packaged_task<decltype(call())()> task(call);
    auto result = task.get_future();
    boost::asio::post(io_, [&task] { task(); });
    return result.get();
  }
  ~LinkAgent() {
    on_thread([this] {
      server_.reset();
      return 0;
    });
    io_.stop();
    thread_.join();
  }
  LinkStatus status(std::size_t index) {
    return on_thread([this, index] { return server_->status(index); });
  }
  bool wait_for(std::size_t index, const std::function<bool(const LinkStatus&)>& condition) {
    const auto deadline = Deadline::after(std::chrono::seconds(50));
    while (!condition(status(index))) {
      if (deadline.has_passed()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  LinkServer& server() { return *server_; }

  Environment environment(std::size_t index) {
    return environment(on_thread([this, index] { return server_->address_of(index); }), generation_);
  }
  static Environment environment(const std::string& address, int generation) {
    Environment environment;
    environment.set("DEEPSCALE_AGENT", address);
    environment.set("DEEPSCALE_GENERATION", std::to_string(generation));
    return environment;
  }
  LinkAddress address(std::size_t index) {
    return LinkAddress::parse(on_thread([this, index] { return server_->address_of(index); }));
  }

 private:
  const int generation_;
  boost::asio::io_context io_{1};
  std::optional<LinkServer> server_;
  std::thread thread_;
};

}  // namespace deepscale::testing
