#include "tests/torch/world_of_threads.h"

#include <fmt/core.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "comm/base/error.h"
#include "comm/store/store_server.h"

namespace deepscale::testing {

namespace {

class World {
 public:
  World(int world_size, std::chrono::seconds limit)
      : size_(world_size), limit_(limit), deadline_(Deadline::after(limit)), server_(StoreServerOptions{}) {}

  void run(const RankFunction& function) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size_; ++rank) {
      threads.emplace_back([this, &function, rank] { run_rank(function, rank); });
    }
    abort_at_deadline();
    for (std::thread& thread : threads) thread.join();
    if (first_error_) std::rethrow_exception(first_error_);
  }

 private:
  void run_rank(const RankFunction& function, int rank) {
    std::shared_ptr<Communicator> communicator;
    try {
      communicator = connect(rank);
      function(rank, communicator);
    } catch (const std::exception& error) {
      keep_first_error();
      if (communicator) communicator->abort(fmt::format("rank {} failed: {}", rank, error.what()));
    }
    const std::lock_guard lock(mutex_);
    ++ended_;
    changed_.notify_all();
  }

  std::shared_ptr<Communicator> connect(int rank) {
    std::shared_ptr<Store> store = connect_store("127.0.0.1", server_.port(), deadline_);
    CommunicatorOptions options;
    options.timeout = limit_;
    std::shared_ptr<Communicator> communicator =
        make_tcp_communicator(rank, size_, std::move(store), options);
    const std::lock_guard lock(mutex_);
    communicators_.push_back(communicator);
    return communicator;
  }

  void keep_first_error() {
    const std::lock_guard lock(mutex_);
    if (!first_error_) first_error_ = std::current_exception();
  }

  void abort_at_deadline() {
    std::unique_lock lock(mutex_);
    if (changed_.wait_until(lock, deadline_.time(), [this] { return ended_ == size_; })) return;
    const std::string reason = fmt::format("the ranks did not end within {} s", limit_.count());
    if (!first_error_) first_error_ = std::make_exception_ptr(Error(ErrorCode::kTimeout, reason));
    for (const auto& communicator : communicators_) communicator->abort(reason);
  }

  const int size_;
  const std::chrono::seconds limit_;
  const Deadline deadline_;
  HostedStoreServer server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int ended_ = 0;
  std::exception_ptr first_error_;
  std::vector<std::shared_ptr<Communicator>> communicators_;
};

}  // namespace

void run_ranks(int world_size, const RankFunction& function, std::chrono::seconds limit) {
  if (world_size == 1) return function(0, make_single_communicator());
  World(world_size, limit).run(function);
}

}  // namespace deepscale::testing
