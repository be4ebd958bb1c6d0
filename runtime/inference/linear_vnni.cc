// Products of quantised weights by the integer dot products of AVX-512 (VNNI). Compiled for them where the
// compiler can (CMakeLists.txt); else without loops.
#include "runtime/inference/linear_loops.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>

namespace deepscale {

namespace {

// A level is a byte without a sign, as vpdpbusd takes it. An activation is two with one: it is
// scale * (256 * high + low), with a scale for its row of a run: 16 bits with the sign, of the largest there.
// Packed are, for each 4 columns, the high bytes of each row, then the low ones; then the rows' scales, then
// the sums of their whole numbers.
struct Vnni {
  using Vector = __m512;
  using Words = __m512i;
  static constexpr int kWidth = 16;
  static constexpr int kMostCount = 8;
  static constexpr int kColumns = 4;  // of a step

  static Vector broadcast(float value) { return _mm512_set1_ps(value); }
  static void store(float* data, Vector value) { _mm512_storeu_ps(data, value); }
  static void prefetch(const void* data) { _mm_prefetch(static_cast<const char*>(data), _MM_HINT_T0); }
  static Words load_words(const std::uint8_t* data) { return _mm512_loadu_si512(data); }
  static Words low_halves(Words words) { return _mm512_and_si512(words, _mm512_set1_epi8(15)); }
  static Words high_halves(Words words) { return low_halves(_mm512_srli_epi16(words, 4)); }

  static constexpr std::int64_t packed_bytes(std::int64_t columns) {
    return 2 * columns + 2 * static_cast<std::int64_t>(sizeof(float));
  }

  // Comparing the bits of magnitudes, a value that is not finite is the largest, and so makes the scale, and
  // all products, not finite.
  static float largest_magnitude(const float* input, std::int64_t columns) {
    __m512i largest = _mm512_setzero_si512();
    for (std::int64_t k = 0; k < columns; k += kWidth) {
      const __m512i bits = _mm512_and_si512(_mm512_loadu_si512(input + k), _mm512_set1_epi32(0x7fffffff));
      largest = _mm512_max_epi32(largest, bits);
    }
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(largest))));
  }

  static void pack(const QuantizedRun& run, int count, std::byte* packed) {
    auto* scales = reinterpret_cast<float*>(packed + 2 * run.columns * count);
    for (int m = 0; m < count; ++m) {
      const float* input = run.input + m * run.stride;
      constexpr float kLargest = 127 * 256 + 127;
      const float largest = largest_magnitude(input, run.columns);
      constexpr float kNothing = 1e-30f;  // its inverse would not be finite
      const __m512 inverse = _mm512_set1_ps(largest > kNothing ? kLargest / largest : 0.0f);
      __m512i sum = _mm512_setzero_si512();
      for (std::int64_t k = 0; k < run.columns; k += kWidth) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(input + k), inverse));
        const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(128)), 8);
        const __m512i low = _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 8));
        sum = _mm512_add_epi32(sum, whole);
        std::byte* const to = packed + 2 * k * count + m * kColumns;
        scatter(high, to, 2 * count * kColumns);
        scatter(low, to + count * kColumns, 2 * count * kColumns);
      }
      scales[m] = largest / kLargest;
      scales[count + m] = static_cast<float>(_mm512_reduce_add_epi32(sum));
    }
  }

  // Sixteen small whole numbers as bytes, four at a place.
  static void scatter(__m512i values, std::byte* to, std::int64_t distance) {
    alignas(16) std::int32_t words[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(words), _mm512_cvtepi32_epi8(values));
    for (int i = 0; i < 4; ++i) __builtin_memcpy(to + i * distance, words + i, sizeof(words[i]));
  }

  template <int kCount>
  struct Sums {
    Sums(const std::byte* packed, std::int64_t columns)
        : next(packed), scales(reinterpret_cast<const float*>(packed + 2 * columns * kCount)) {
      for (int m = 0; m < kCount; ++m) high[m] = low[m] = _mm512_setzero_si512();
    }

    static __m512i four_columns(const std::byte* from) {
      std::int32_t word;
      __builtin_memcpy(&word, from, sizeof(word));
      return _mm512_set1_epi32(word);
    }

    void add(const Words& words) {
      for (int m = 0; m < kCount; ++m) {
        high[m] = _mm512_dpbusd_epi32(high[m], words, four_columns(next + m * kColumns));
        low[m] = _mm512_dpbusd_epi32(low[m], words, four_columns(next + (kCount + m) * kColumns));
      }
      next += 2 * kCount * kColumns;
    }

    // The sum of 256 columns of 255 * (256 * 127 + 127) is within 31 bits.
    void add_to(Vector* totals, const float* scale, const float* minimum) const {
      const Vector weight_scale = _mm512_loadu_ps(scale), weight_minimum = _mm512_loadu_ps(minimum);
      for (int m = 0; m < kCount; ++m) {
        const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(high[m], 8), low[m]);
        const Vector of_minimum = _mm512_mul_ps(weight_minimum, broadcast(scales[kCount + m]));
        const Vector sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), weight_scale, of_minimum);
        totals[m] = _mm512_fmadd_ps(sum, broadcast(scales[m]), totals[m]);
      }
    }

    const std::byte* next;
    const float* scales;
    __m512i high[kCount], low[kCount];
  };
};

}  // namespace

const QuantizedLoops* vnni_quantized_loops() {
  const bool supported = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
  return supported ? &QuantizedLinear<Vnni>::kLoops : nullptr;
}

}  // namespace deepscale
#else
namespace deepscale {
const QuantizedLoops* vnni_quantized_loops() {
  return nullptr;
}
}  // namespace deepscale
#endif
