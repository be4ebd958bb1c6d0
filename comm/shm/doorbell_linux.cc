#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

#include "comm/shm/doorbell.h"

namespace deepscale::shm {

struct Doorbell::Event {};  // the word is all that a futex needs

Doorbell::Doorbell(Word& word, const std::string&) : word_(&word) {}
Doorbell::Doorbell(Doorbell&&) noexcept = default;
Doorbell::~Doorbell() = default;

// Not FUTEX_PRIVATE_FLAG: the word lies at different addresses in different processes.
void Doorbell::ring() {
  word_->rings.fetch_add(1);
  syscall(SYS_futex, &word_->rings, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Doorbell::sleep(Clock::duration at_most) {
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(at_most).count();
  timespec time{};
  time.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000);
  time.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
  syscall(SYS_futex, &word_->rings, FUTEX_WAIT, rings_seen_, &time, nullptr, 0);
}

}  // namespace deepscale::shm
