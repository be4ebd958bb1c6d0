// The products of every instruction set and weight format against double precision.
#include "runtime/inference/linear_kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "comm/base/error.h"
#include "comm/base/half.h"
#include "runtime/inference/quantize.h"

namespace deepscale {
namespace {

std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

WeightMatrix matrix_of(const std::vector<float>& values, std::int64_t columns) {
  return {WeightFormat::kFloat32, static_cast<std::int64_t>(values.size()) / columns, columns,
          reinterpret_cast<const std::byte*>(values.data())};
}

// A matrix of random weights in one format, with the memory behind it.
struct Weights {
  Weights(WeightFormat format, std::int64_t rows, std::int64_t columns, unsigned seed,
          std::int64_t group = 32)
      : values(random_values(static_cast<std::size_t>(rows * columns), seed)) {
    const WeightMatrix source = matrix_of(values, columns);
    if (format == WeightFormat::kInt8 || format == WeightFormat::kInt4) {
      quantized.emplace_back(source, format == WeightFormat::kInt8 ? 8 : 4, group);
      view = quantized.front().view();
    } else if (format == WeightFormat::kFloat32) {
      view = source;
    } else {
      for (const float value : values)
        halves.push_back(format == WeightFormat::kBFloat16 ? float_to_bf16(value) : float_to_fp16(value));
      view = {format, rows, columns, reinterpret_cast<const std::byte*>(halves.data())};
    }
  }
  // What the kernel must take element [row, column] for.
  float stored(std::int64_t row, std::int64_t column) const {
    const std::size_t at = static_cast<std::size_t>(row * view.columns + column);
    switch (view.format) {
      case WeightFormat::kFloat32:
        return values[at];
      case WeightFormat::kBFloat16:
        return bf16_to_float(halves[at]);
      case WeightFormat::kFloat16:
        return fp16_to_float(halves[at]);
      default:
        break;
    }
    const auto* data = reinterpret_cast<const std::uint8_t*>(view.data);
    const std::int64_t band = row / 16, in_band = row % 16;
    const BandScales& group = view.scales[band * (view.columns / view.group_size) + column / view.group_size];
    int level = 0;
    if (view.format == WeightFormat::kInt8) {
      level = data[band * 16 * view.columns + column / 4 * 64 + in_band * 4 + column % 4];
    } else {
      const int pair = data[band * 8 * view.columns + column / 8 * 64 + in_band * 4 + column % 4];
      level = column % 8 < 4 ? pair & 15 : pair >> 4;
    }
    return group.scale[in_band] * static_cast<float>(level) + group.minimum[in_band];
  }

  std::vector<float> values;
  std::vector<std::uint16_t> halves;
  std::vector<QuantizedMatrix> quantized;
  WeightMatrix view;
};

class LinearKernelTest : public ::testing::TestWithParam<std::tuple<WeightFormat, LinearSet>> {};

// All rows but some first and last ones, against double precision; nothing beside them is written.
void expect_product(const Weights& weights, std::int64_t count, LinearSet set) {
  const std::int64_t columns = weights.view.columns, rows = weights.view.rows, stride = rows + 1;
  const std::vector<float> input =
      random_values(static_cast<std::size_t>(count * columns), static_cast<unsigned>(count + columns));
  std::vector<float> output(static_cast<std::size_t>(count * stride), -1.0f);
  const std::int64_t grain = is_quantized(weights.view.format) ? kBandRows : 1;
  const std::int64_t first = grain, end = rows % grain != 0 ? rows : rows - grain;
  multiply({input.data(), count, weights.view, output.data(), stride, first, end}, set);
  for (std::int64_t n = first; n < end; ++n) {
    std::vector<float> row(static_cast<std::size_t>(columns));
    for (std::int64_t k = 0; k < columns; ++k) row[k] = weights.stored(n, k);
    for (std::int64_t m = 0; m < count; ++m) {
      double sum = 0, magnitude = 0, weight = 0, largest = 0;
      for (std::int64_t k = 0; k < columns; ++k) {
        const double term = static_cast<double>(row[k]) * input[m * columns + k];
        sum += term;
        magnitude += std::abs(term);
        weight += std::abs(row[k]);
        largest = std::max<double>(largest, std::abs(input[m * columns + k]));
      }
      const double rounding = set == LinearSet::kVnni ? weight * largest / 65278 : 0.0;  // of activations
      EXPECT_NEAR(output[m * stride + n], sum, 1e-5 * magnitude + rounding + 1e-6)
          << "m " << m << " n " << n << " k " << columns;
    }
  }
  for (std::int64_t m = 0; m < count; ++m) {
    for (std::int64_t n = 0; n < first; ++n) EXPECT_EQ(output[m * stride + n], -1.0f) << "not asked for";
    for (std::int64_t n = end; n <= rows; ++n) EXPECT_EQ(output[m * stride + n], -1.0f) << "not asked for";
  }
}

TEST_P(LinearKernelTest, EqualsDoublePrecisionForAnyShape) {
  const auto [format, set] = GetParam();
  unsigned seed = 1;
  for (const std::int64_t columns : {1, 4, 24, 32, 64, 288, 300, 2112}) {
    if (is_quantized(format) && columns % 32 != 0) continue;
    const Weights weights(format, is_quantized(format) ? 48 : 8, columns, ++seed);
    for (const std::int64_t count : {1, 3, 4, 8, 9, 17}) expect_product(weights, count, set);
  }
}

// Rows so long that they make many parts and blocks, and so many that they make blocks of every height.
TEST_P(LinearKernelTest, EqualsDoublePrecisionAcrossPartsAndBlocks) {
  const auto [format, set] = GetParam();
  expect_product(Weights(format, 29, 16416, 1), 9, set);
  expect_product(Weights(format, 2500, 160, 2), 2, set);
}

class QuantizedKernelTest : public LinearKernelTest {};

// A part of the columns may begin inside a group.
TEST_P(QuantizedKernelTest, EqualsDoublePrecisionForAnyGroupSize) {
  const auto [format, set] = GetParam();
  for (const std::int64_t group : {96, 704, 2112}) {
    const Weights weights(format, 25, 2112, 3, group);
    for (const std::int64_t count : {1, 8}) expect_product(weights, count, set);
  }
}

// A large activation takes from the precision of its neighbours in a run only.
TEST_P(QuantizedKernelTest, ALargeActivationIsOfNoConsequenceToOtherGroups) {
  const auto [format, set] = GetParam();
  const Weights weights(format, 16, 1024, 4, 64);
  const std::vector<float> small = random_values(1024, 5);
  std::vector<float> large = small, of_small(16), of_large(16);
  large[100] += 1e6f;
  multiply({small.data(), 1, weights.view, of_small.data(), 16, 0, 16}, set);
  multiply({large.data(), 1, weights.view, of_large.data(), 16, 0, 16}, set);
  for (std::int64_t n = 0; n < 16; ++n) {
    double bound = 1e-3;  // of its own group, 64 columns
    for (std::int64_t k = 64; k < 128; ++k) bound += std::abs(weights.stored(n, k)) * 1e6 / 65278;
    EXPECT_NEAR(of_large[n], of_small[n] + 1e6 * weights.stored(n, 100), bound);
  }
}

TEST_P(QuantizedKernelTest, TheLargestLevelsAndActivationsDoNotOverflow) {
  const auto [format, set] = GetParam();
  std::vector<float> values(16 * 512, 1.0f), output(16);
  for (std::size_t row = 0; row < 16; ++row) values[row * 512] = 0.0f;
  const QuantizedMatrix weights(matrix_of(values, 512), format == WeightFormat::kInt8 ? 8 : 4, 512);
  for (const float value : {2.0f, -2.0f}) {
    multiply({std::vector<float>(512, value).data(), 1, weights.view(), output.data(), 16, 0, 16}, set);
    for (const float result : output) EXPECT_NEAR(result, value * 511, 1e-3);
  }
}

TEST_P(QuantizedKernelTest, AnActivationThatIsNotFiniteMakesProductsThatAreNotFinite) {
  const auto [format, set] = GetParam();
  const Weights weights(format, 16, 128, 4, 64);
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> input = random_values(128, 5), output(16);
    input[70] = value;
    multiply({input.data(), 1, weights.view, output.data(), 16, 0, 16}, set);
    for (const float result : output) EXPECT_FALSE(std::isfinite(result));
  }
}

TEST_P(QuantizedKernelTest, ActivationsNearZeroMakeProductsNearZero) {
  const auto [format, set] = GetParam();
  const Weights weights(format, 16, 128, 4, 64);
  for (const float value : {0.0f, std::numeric_limits<float>::denorm_min(), -1e-36f}) {
    std::vector<float> output(16);
    multiply({std::vector<float>(128, value).data(), 1, weights.view, output.data(), 16, 0, 16}, set);
    for (const float result : output) EXPECT_NEAR(result, 0.0f, 1e-30f);
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearKernelTest,
                         ::testing::Combine(::testing::Values(WeightFormat::kFloat32, WeightFormat::kBFloat16,
                                                              WeightFormat::kFloat16, WeightFormat::kInt8,
                                                              WeightFormat::kInt4),
                                            ::testing::Values(LinearSet::kPortable, LinearSet::kAvx2,
                                                              LinearSet::kAvx512, LinearSet::kVnni)));

INSTANTIATE_TEST_SUITE_P(All, QuantizedKernelTest,
                         ::testing::Combine(::testing::Values(WeightFormat::kInt8, WeightFormat::kInt4),
                                            ::testing::Values(LinearSet::kPortable, LinearSet::kAvx2,
                                                              LinearSet::kAvx512, LinearSet::kVnni)));

TEST(LinearKernel, ARowIsWidenedWholeWhateverItsLength) {
  for (const std::int64_t columns : {1, 16, 30, 33}) {
    const Weights weights(WeightFormat::kBFloat16, 3, columns, 5);
    std::vector<float> row(static_cast<std::size_t>(columns) + 1, -1.0f);
    widen_row(weights.view, 2, row.data());
    for (std::int64_t column = 0; column < columns; ++column)
      EXPECT_EQ(row[column], weights.stored(2, column));
    EXPECT_EQ(row.back(), -1.0f);
  }
}

TEST(QuantizedMatrix, IsWithinHalfALevelOfTheWeights) {
  for (const int bits : {8, 4}) {
    const std::vector<float> values = random_values(5 * 128, 3);
    const QuantizedMatrix quantized(matrix_of(values, 128), bits, 64);
    std::vector<float> row(128);
    for (std::int64_t r = 0; r < 5; ++r) {
      widen_row(quantized.view(), r, row.data());
      for (std::int64_t column = 0; column < 128; ++column) {
        const float scale = quantized.view().scales[column / 64].scale[r];
        EXPECT_NEAR(row[column], values[r * 128 + column], 0.5001f * scale);
      }
    }
    EXPECT_EQ(quantized.bytes(), kBandRows * (128 * bits / 8 + 2 * 8));
  }
}

TEST(QuantizedMatrix, AGroupOfEqualElementsIsExact) {
  const std::vector<float> values(64, 1.25f);
  const QuantizedMatrix quantized(matrix_of(values, 64), 4, 32);
  std::vector<float> row(64);
  widen_row(quantized.view(), 0, row.data());
  EXPECT_EQ(row, values);
}

TEST(QuantizedMatrix, RefusesWhatHasNoQuantisedForm) {
  std::vector<float> values(96, 1.0f);
  EXPECT_THROW(QuantizedMatrix(matrix_of(values, 96), 8, 64), Error);
  EXPECT_THROW(QuantizedMatrix(matrix_of(values, 96), 8, 48), Error);
  EXPECT_THROW(QuantizedMatrix(matrix_of(values, 96), 2, 32), Error);
  values[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(QuantizedMatrix(matrix_of(values, 96), 8, 32), Error);
}

}  // namespace
}  // namespace deepscale
