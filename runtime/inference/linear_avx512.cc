// Compiled for AVX-512 where the compiler can (CMakeLists.txt); else without loops.
#include "runtime/inference/linear_loops.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

namespace deepscale {

namespace {

struct Avx512 {
  using Vector = __m512;
  using Words = __m512i;
  static constexpr int kWidth = 16;
  static constexpr int kMostCount = 8;
  static constexpr int kTileRows = 2;

  static Vector broadcast(float value) { return _mm512_set1_ps(value); }
  static Vector load(const float* data) { return _mm512_loadu_ps(data); }
  static void store(float* data, Vector value) { _mm512_storeu_ps(data, value); }
  static __m256i load_32_bytes(const void* data) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(data));
  }
  static void prefetch(const void* data) { _mm_prefetch(reinterpret_cast<const char*>(data), _MM_HINT_T0); }
  static Vector load_bf16(const std::uint16_t* data) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_32_bytes(data)), 16));
  }
  static Vector load_fp16(const std::uint16_t* data) { return _mm512_cvtph_ps(load_32_bytes(data)); }
  static Words load_words(const std::uint8_t* data) { return _mm512_loadu_si512(data); }
  static Words low_halves(Words words) { return _mm512_and_si512(words, _mm512_set1_epi8(15)); }
  static Words high_halves(Words words) { return low_halves(_mm512_srli_epi16(words, 4)); }
  template <int kByte>
  static Vector byte_of(Words words) {
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(words, 8 * kByte), _mm512_set1_epi32(255)));
  }
  static Vector multiply_add(Vector left, Vector right, Vector sum) {
    return _mm512_fmadd_ps(left, right, sum);
  }
  // Of four vectors: in each quarter, the sums of that quarter of the first to the last.
  static Vector quarter_sums(const Vector* values) {
    const Vector left =
        _mm512_add_ps(_mm512_unpacklo_ps(values[0], values[1]), _mm512_unpackhi_ps(values[0], values[1]));
    const Vector right =
        _mm512_add_ps(_mm512_unpacklo_ps(values[2], values[3]), _mm512_unpackhi_ps(values[2], values[3]));
    const __m512d first = _mm512_castps_pd(left), second = _mm512_castps_pd(right);
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(first, second)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(first, second)));
  }
  // results[i] = the sum of values[i].
  template <int kCount>
  static void sums(const Vector (&values)[kCount], float* results) {
    if constexpr (kCount == 8) {
      const Vector low = quarter_sums(values), high = quarter_sums(values + 4);
      Vector both =
          _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x44), _mm512_shuffle_f32x4(low, high, 0xee));
      both = _mm512_add_ps(both, _mm512_shuffle_f32x4(both, both, 0xb1));
      _mm_storeu_ps(results, _mm512_castps512_ps128(both));
      _mm_storeu_ps(results + 4, _mm512_extractf32x4_ps(both, 2));
    } else {
      for (int i = 0; i < kCount; ++i) results[i] = _mm512_reduce_add_ps(values[i]);
    }
  }
};

}  // namespace

const LinearLoops* avx512_linear_loops() {
  static constexpr LinearLoops kLoops{Linear<Avx512>::multiply, Linear<Avx512>::widen_row,
                                      QuantizedLinear<FloatArithmetic<Avx512>>::kLoops};
  const bool supported = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512vl");
  return supported ? &kLoops : nullptr;
}

}  // namespace deepscale
#else
namespace deepscale {
const LinearLoops* avx512_linear_loops() {
  return nullptr;
}
}  // namespace deepscale
#endif
