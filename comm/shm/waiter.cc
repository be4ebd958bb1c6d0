#include "comm/shm/waiter.h"

#include <fmt/core.h>

#include <chrono>
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace deepscale::shm {

void Waiter::pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#endif
}

std::optional<Error> Waiter::why_hopeless(const Operation& operation, int peer) {
  if (host_.has_failed()) return host_.cause();
  if (const auto why = host_.why_gone(peer)) {
    return Error(ErrorCode::kPeerLost,
                 fmt::format("lost rank {} during {}: {}; what ended it stands in its own output", peer,
                             describe(operation.header()), *why));
  }
  if (operation.deadline().has_passed()) {
    const double seconds = std::chrono::duration<double>(host_.timeout()).count();
    return Error(ErrorCode::kTimeout, fmt::format("{} did not finish within {:g} s; it waits for rank {}",
                                                  describe(operation.header()), seconds, peer));
  }
  return std::nullopt;
}

}  // namespace deepscale::shm
