#include "comm/base/half.h"
#include "runtime/inference/linear_loops.h"

namespace deepscale {

namespace {

// Vectors of one float, which leaves the use of registers to the compiler.
struct Portable {
  using Vector = float;
  using Words = std::uint32_t;
  static constexpr int kWidth = 1;
  static constexpr int kMostCount = 4;
  static constexpr int kTileRows = 2;

  static Vector broadcast(float value) { return value; }
  static Vector load(const float* data) { return *data; }
  static void store(float* data, Vector value) { *data = value; }
  static void prefetch(const void*) {}
  static Vector load_bf16(const std::uint16_t* data) { return bf16_to_float(*data); }
  static Vector load_fp16(const std::uint16_t* data) { return fp16_to_float(*data); }
  static Words load_words(const std::uint8_t* data) {
    return data[0] | Words{data[1]} << 8 | Words{data[2]} << 16 | Words{data[3]} << 24;
  }
  static Words low_halves(Words words) { return words & 0x0f0f0f0f; }
  static Words high_halves(Words words) { return low_halves(words >> 4); }
  template <int kByte>
  static Vector byte_of(Words words) {
    return static_cast<float>(words >> (8 * kByte) & 255);
  }
  static Vector multiply_add(Vector left, Vector right, Vector sum) { return left * right + sum; }
  template <int kCount>
  static void sums(const Vector (&values)[kCount], float* results) {
    for (int i = 0; i < kCount; ++i) results[i] = values[i];
  }
};

}  // namespace

const LinearLoops& portable_linear_loops() {
  static constexpr LinearLoops kLoops{Linear<Portable>::multiply, Linear<Portable>::widen_row,
                                      QuantizedLinear<FloatArithmetic<Portable>>::kLoops};
  return kLoops;
}

}  // namespace deepscale
