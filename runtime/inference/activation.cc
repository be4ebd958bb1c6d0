#include "runtime/inference/activation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace deepscale {

namespace {

// exp(x) = 2^n * exp(r), with n whole and r within half of ln 2, whose series ends after six terms. Outside
// of what fp32 holds it stays at the ends.
inline float fast_exp(float x) {
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + kWhole;
  const float n = shifted - kWhole;
  const float r = x - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts, the first of few bits
  float series = 1.0f / 720.0f;
  for (const float term : {1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f})
    series = series * r + term;
  const std::int32_t exponent =
      std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kWhole) + 127;
  return series * std::bit_cast<float>(exponent << 23);
}

template <typename Function>
void apply(std::span<float> values, Function function) {
  for (float& value : values) value = function(value);
}

}  // namespace

void activate(Activation activation, std::span<float> values) {
  switch (activation) {
    case Activation::kRelu:
      return apply(values, [](float x) { return std::max(x, 0.0f); });
    case Activation::kSilu:
      return apply(values, [](float x) { return x / (1.0f + fast_exp(-x)); });
    case Activation::kGelu:
      return apply(values, [](float x) { return 0.5f * x * (1.0f + std::erf(x * 0.70710678f)); });
    case Activation::kGeluTanh:
      return apply(values, [](float x) {
        return 0.5f * x * (1.0f + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
      });
  }
}

}  // namespace deepscale
