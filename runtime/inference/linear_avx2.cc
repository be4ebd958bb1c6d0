// Compiled for AVX2, FMA and F16C where the compiler can (CMakeLists.txt); else without loops.
#include "runtime/inference/linear_loops.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

namespace deepscale {

namespace {

struct Avx2 {
  using Vector = __m256;
  using Words = __m256i;
  static constexpr int kWidth = 8;
  static constexpr int kMostCount = 4;
  static constexpr int kTileRows = 2;

  static Vector broadcast(float value) { return _mm256_set1_ps(value); }
  static Vector load(const float* data) { return _mm256_loadu_ps(data); }
  static void store(float* data, Vector value) { _mm256_storeu_ps(data, value); }
  static void prefetch(const void* data) { _mm_prefetch(reinterpret_cast<const char*>(data), _MM_HINT_T0); }
  static __m128i load_16_bytes(const void* data) {
    return _mm_loadu_si128(static_cast<const __m128i*>(data));
  }
  static Vector load_bf16(const std::uint16_t* data) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(data)), 16));
  }
  static Vector load_fp16(const std::uint16_t* data) { return _mm256_cvtph_ps(load_16_bytes(data)); }
  static Words load_words(const std::uint8_t* data) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data));
  }
  static Words low_halves(Words words) { return _mm256_and_si256(words, _mm256_set1_epi8(15)); }
  static Words high_halves(Words words) { return low_halves(_mm256_srli_epi16(words, 4)); }
  template <int kByte>
  static Vector byte_of(Words words) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words, 8 * kByte), _mm256_set1_epi32(255)));
  }
  static Vector multiply_add(Vector left, Vector right, Vector sum) {
    return _mm256_fmadd_ps(left, right, sum);
  }
  static float sum(Vector value) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }
  template <int kCount>
  static void sums(const Vector (&values)[kCount], float* results) {
    for (int i = 0; i < kCount; ++i) results[i] = sum(values[i]);
  }
};

}  // namespace

const LinearLoops* avx2_linear_loops() {
  static constexpr LinearLoops kLoops{Linear<Avx2>::multiply, Linear<Avx2>::widen_row,
                                      QuantizedLinear<FloatArithmetic<Avx2>>::kLoops};
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kLoops : nullptr;
}

}  // namespace deepscale
#else
namespace deepscale {
const LinearLoops* avx2_linear_loops() {
  return nullptr;
}
}  // namespace deepscale
#endif
