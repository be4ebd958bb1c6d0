// Wakes one sleeping thread of a rank from any process of the host.
//
// Both sides follow one order, so that no wake-up is lost: the sleeper announces itself, looks once more
// whether what it waits for has happened, and only then sleeps; whoever makes it happen first publishes, then
// looks whether somebody sleeps, and rings. All of these accesses are sequentially consistent.
//
// Linux: a futex on a word of shared memory. Windows: an event with a name, since WaitOnAddress does not
// reach across processes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "comm/base/clock.h"

namespace deepscale::shm {

class Doorbell {
 public:
  // The part in shared memory; zero at the beginning.
  struct alignas(64) Word {
    std::atomic<std::uint32_t> rings;
    std::atomic<std::uint32_t> awaited;  // nobody sleeps (0), for anybody, or for that rank
  };
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

  // The sleeper and its peers give the same name. Error(kSystem) when the system has no event left.
  Doorbell(Word& word, const std::string& name);
  Doorbell(Doorbell&&) noexcept;
  ~Doorbell();

  // For anybody.
  void ring();
  void ring_if_asleep() {
    if (word_->awaited.load() != kNobody) ring();
  }
  // From a rank after it has published something: where nobody waits for it, a ring would be one of n * n.
  void ring_if_waiting_for(int rank) {
    const std::uint32_t awaited = word_->awaited.load();
    if (awaited == kAnybody || awaited == number_of(rank)) ring();
  }

  // For the sleeper, one thread at a time. With a `rank`, only what that one publishes matters.
  void announce_sleep(std::optional<int> rank) {
    rings_seen_ = word_->rings.load();
    word_->awaited.store(rank ? number_of(*rank) : kAnybody);
  }
  void stay_awake() { word_->awaited.store(kNobody, std::memory_order_relaxed); }
  // Returns when rung since announce_sleep(), after `at_most`, or for no reason.
  void sleep(Clock::duration at_most);

 private:
  static constexpr std::uint32_t kNobody = 0;
  static constexpr std::uint32_t kAnybody = 1;
  static std::uint32_t number_of(int rank) { return static_cast<std::uint32_t>(rank) + 2; }

  struct Event;
  Word* word_;
  std::unique_ptr<Event> event_;
  std::uint32_t rings_seen_ = 0;
};

}  // namespace deepscale::shm
