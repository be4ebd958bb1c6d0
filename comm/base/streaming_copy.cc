#include "comm/base/streaming_copy.h"

#include <cstdint>
#include <cstring>
#if defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
#define DEEPSCALE_HAS_STREAMING_STORES 1
#endif

namespace deepscale {

#if defined(DEEPSCALE_HAS_STREAMING_STORES)

// Whole cache lines of the target, since a line that is written in part is read first after all.
void begin_streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  constexpr std::size_t kLine = 64;
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(to) % kLine;
  const std::size_t head = misaligned == 0 ? 0 : kLine - misaligned;
  if (bytes < head + kLine) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return;
  }
  std::memcpy(to, from, head);
  std::size_t done = head;
  for (; done + kLine <= bytes; done += kLine) {
    const auto* source = reinterpret_cast<const __m128i*>(from + done);
    auto* target = reinterpret_cast<__m128i*>(to + done);
    const __m128i first = _mm_loadu_si128(source), second = _mm_loadu_si128(source + 1);
    const __m128i third = _mm_loadu_si128(source + 2), fourth = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, first);
    _mm_stream_si128(target + 1, second);
    _mm_stream_si128(target + 2, third);
    _mm_stream_si128(target + 3, fourth);
  }
  std::memcpy(to + done, from + done, bytes - done);
}

void end_streaming() {
  _mm_sfence();  // streaming stores are not ordered with what is published after them
}

#else

void begin_streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void end_streaming() {}

#endif

void streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  begin_streaming_copy(to, from, bytes);
  end_streaming();
}

}  // namespace deepscale
