#include "runtime/inference/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace deepscale {
namespace {

double exact(Activation activation, double x) {
  switch (activation) {
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  }
  return 0;
}

TEST(Activation, EqualsDoublePrecision) {
  for (const Activation activation :
       {Activation::kRelu, Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    std::vector<float> inputs;
    for (int i = -9000; i <= 9000; ++i) inputs.push_back(static_cast<float>(i) * 0.00987f);
    std::vector<float> values = inputs;
    activate(activation, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double expected = exact(activation, inputs[i]);
      EXPECT_NEAR(values[i], expected, 1e-6 * std::abs(expected) + 1e-6 * std::min(1.0f, std::abs(inputs[i])))
          << static_cast<int>(activation) << " of " << inputs[i];
    }
  }
}

TEST(Activation, SiluIsRelativelyExactBelowZero) {
  for (float x = -80.0f; x < 0; x += 0.37f) {
    float value = x;
    activate(Activation::kSilu, {&value, 1});
    EXPECT_NEAR(value / exact(Activation::kSilu, x), 1.0, 4e-7) << x;
  }
}

TEST(Activation, SiluOfTheFarEnds) {
  const float largest = std::numeric_limits<float>::max();
  std::vector<float> values{-1000.0f,
                            -90.0f,
                            0.0f,
                            1000.0f,
                            largest,
                            std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()};
  activate(Activation::kSilu, values);
  EXPECT_NEAR(values[0], 0.0, 1e-30);
  EXPECT_NEAR(values[1], 0.0, 1e-30);
  EXPECT_EQ(values[2], 0.0f);
  EXPECT_EQ(values[3], 1000.0f);
  EXPECT_EQ(values[4], largest);
  EXPECT_EQ(values[5], std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(values[6]));
}

}  // namespace
}  // namespace deepscale
