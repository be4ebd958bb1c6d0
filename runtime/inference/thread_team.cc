#include "runtime/inference/thread_team.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace deepscale {

using Work = std::function<void(std::int64_t, std::int64_t)>;

struct ThreadTeam::Shared {
  std::vector<std::thread> threads;
  // The work of one run, written before `round` grows.
  const Work* work = nullptr;
  std::int64_t count = 0;
  std::int64_t share = 0;
  std::atomic<std::int64_t> next{0};
  std::atomic<std::uint32_t> round{0};
  std::atomic<std::uint32_t> busy{0};
  std::atomic<bool> stops{false};
  std::mutex mutex;
  std::exception_ptr failure;

  void take_shares() {
    try {
      for (;;) {
        const std::int64_t begin = next.fetch_add(share, std::memory_order_relaxed);
        if (begin >= count) return;
        (*work)(begin, std::min(count, begin + share));
      }
    } catch (...) {
      next.store(count, std::memory_order_relaxed);
      const std::lock_guard lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
    }
  }

  void serve() {
    std::uint32_t seen = 0;
    for (;;) {
      wait_while(round, seen);
      seen = round.load(std::memory_order_acquire);
      if (stops.load(std::memory_order_acquire)) return;
      take_shares();
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) wake();
    }
  }

  // For those who have spun in vain. (std::atomic::wait would do, but not with MinGW, where it may sleep for
  // ever.)
  std::condition_variable changed;

  void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
    constexpr int kSpins = 2000;  // some 20 microseconds, about what waking a thread costs
    for (int spin = 0; spin < kSpins; ++spin) {
      if (value.load(std::memory_order_acquire) != old) return;
      if (spin % 64 == 63) std::this_thread::yield();
    }
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return value.load(std::memory_order_acquire) != old; });
  }

  // After a value has changed that somebody may wait for.
  void wake() {
    { const std::lock_guard lock(mutex); }  // whoever has looked is asleep now, or sees it
    changed.notify_all();
  }
};

ThreadTeam::ThreadTeam(int threads) : shared_(std::make_unique<Shared>()) {
  for (int i = 1; i < threads; ++i)
    shared_->threads.emplace_back([shared = shared_.get()] { shared->serve(); });
}

ThreadTeam::~ThreadTeam() {
  shared_->stops.store(true, std::memory_order_release);
  shared_->round.fetch_add(1, std::memory_order_acq_rel);
  shared_->wake();
  for (std::thread& thread : shared_->threads) thread.join();
}

int ThreadTeam::size() const {
  return static_cast<int>(shared_->threads.size()) + 1;
}

void ThreadTeam::run(std::int64_t count, std::int64_t grain, const Work& work) {
  if (count <= 0) return;
  Shared& shared = *shared_;
  // More shares than threads, so that one that is held up does not hold up all.
  constexpr std::int64_t kSharesPerThread = 4;
  const std::int64_t grains = (count + grain - 1) / grain, shares = size() * kSharesPerThread;
  shared.share = std::max<std::int64_t>(1, (grains + shares - 1) / shares) * grain;
  if (shared.threads.empty() || shared.share >= count) {
    work(0, count);
    return;
  }
  shared.work = &work;
  shared.count = count;
  shared.next.store(0, std::memory_order_relaxed);
  shared.busy.store(static_cast<std::uint32_t>(shared.threads.size()), std::memory_order_relaxed);
  shared.round.fetch_add(1, std::memory_order_release);
  shared.wake();
  shared.take_shares();
  for (std::uint32_t busy; (busy = shared.busy.load(std::memory_order_acquire)) != 0;)
    shared.wait_while(shared.busy, busy);
  if (shared.failure != nullptr) std::rethrow_exception(std::exchange(shared.failure, nullptr));
}

}  // namespace deepscale
