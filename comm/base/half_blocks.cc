#include "comm/base/half_blocks.h"

#include <cstring>

#include "comm/base/half.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#endif

namespace deepscale {

namespace {

constexpr std::size_t kHalfBytes = 2;

void widen_portable(const std::byte* halves, float* floats, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t half;
    std::memcpy(&half, halves + static_cast<std::size_t>(i) * kHalfBytes, kHalfBytes);
    floats[i] = fp16_to_float(half);
  }
}

void narrow_portable(const float* floats, std::byte* halves, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint16_t half = float_to_fp16(floats[i]);
    std::memcpy(halves + static_cast<std::size_t>(i) * kHalfBytes, &half, kHalfBytes);
  }
}

constexpr HalfBlocks kPortable{widen_portable, narrow_portable};

#if defined(__GNUC__) && defined(__x86_64__)

constexpr int kToNearest = _MM_FROUND_TO_NEAREST_INT;
constexpr __mmask16 kAll = 0xffff;  // GCC 12 warns of the intrinsics without a mask

DEEPSCALE_FOR_AVX2 void widen_avx2(const std::byte* halves, float* floats, std::int64_t count) {
  for (; count >= 8; count -= 8, halves += 8 * kHalfBytes, floats += 8) {
    const __m128i loaded = _mm_loadu_si128(reinterpret_cast<const __m128i*>(halves));
    _mm256_storeu_ps(floats, _mm256_cvtph_ps(loaded));
  }
  widen_portable(halves, floats, count);
}

DEEPSCALE_FOR_AVX2 void narrow_avx2(const float* floats, std::byte* halves, std::int64_t count) {
  for (; count >= 8; count -= 8, halves += 8 * kHalfBytes, floats += 8) {
    const __m128i rounded = _mm256_cvtps_ph(_mm256_loadu_ps(floats), kToNearest);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(halves), rounded);
  }
  narrow_portable(floats, halves, count);
}

DEEPSCALE_FOR_AVX512 void widen_avx512(const std::byte* halves, float* floats, std::int64_t count) {
  for (; count >= 16; count -= 16, halves += 16 * kHalfBytes, floats += 16) {
    const __m256i loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves));
    _mm512_storeu_ps(floats, _mm512_maskz_cvtph_ps(kAll, loaded));
  }
  widen_portable(halves, floats, count);
}

DEEPSCALE_FOR_AVX512 void narrow_avx512(const float* floats, std::byte* halves, std::int64_t count) {
  for (; count >= 16; count -= 16, halves += 16 * kHalfBytes, floats += 16) {
    const __m256i rounded = _mm512_maskz_cvtps_ph(kAll, _mm512_loadu_ps(floats), kToNearest);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(halves), rounded);
  }
  narrow_portable(floats, halves, count);
}

constexpr HalfBlocks kAvx2{widen_avx2, narrow_avx2};
constexpr HalfBlocks kAvx512{widen_avx512, narrow_avx512};

#else

constexpr HalfBlocks kAvx2 = kPortable;
constexpr HalfBlocks kAvx512 = kPortable;

#endif

}  // namespace

const HalfBlocks& half_blocks(InstructionSet set) {
  switch (available(set)) {
    case InstructionSet::kAvx512:
      return kAvx512;
    case InstructionSet::kAvx2:
      return kAvx2;
    default:
      return kPortable;
  }
}

}  // namespace deepscale
