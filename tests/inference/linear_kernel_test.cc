// The products of every instruction set and weight format against double precision.
#include "runtime/inference/linear_kernel.h"

#include <gtest/gtest.h>

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
    const GroupScale group = view.scales[at / view.group_size];
    int level = 0;
    if (view.format == WeightFormat::kInt8) {
      level = data[at];
    } else {
      const std::uint8_t pair = data[at / 32 * 16 + at % 16];
      level = at % 32 < 16 ? pair & 15 : pair >> 4;
    }
    return group.scale * static_cast<float>(level) + group.minimum;
  }

  std::vector<float> values;
  std::vector<std::uint16_t> halves;
  std::vector<QuantizedMatrix> quantized;
  WeightMatrix view;
};

class LinearKernelTest : public ::testing::TestWithParam<std::tuple<WeightFormat, LinearSet>> {};

bool is_quantized(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt4;
}

// All rows but the first and the last, against double precision; nothing beside them is written.
void expect_product(const Weights& weights, std::int64_t count, LinearSet set) {
  const std::int64_t columns = weights.view.columns, rows = weights.view.rows, stride = rows + 1;
  const std::vector<float> input =
      random_values(static_cast<std::size_t>(count * columns), static_cast<unsigned>(count + columns));
  std::vector<float> output(static_cast<std::size_t>(count * stride), -1.0f);
  multiply({input.data(), count, weights.view, output.data(), stride, 1, rows - 1}, set);
  for (std::int64_t n = 1; n < rows - 1; ++n) {
    std::vector<float> row(static_cast<std::size_t>(columns));
    for (std::int64_t k = 0; k < columns; ++k) row[k] = weights.stored(n, k);
    for (std::int64_t m = 0; m < count; ++m) {
      double sum = 0, magnitude = 0;
      for (std::int64_t k = 0; k < columns; ++k) {
        const double term = static_cast<double>(row[k]) * input[m * columns + k];
        sum += term;
        magnitude += std::abs(term);
      }
      EXPECT_NEAR(output[m * stride + n], sum, 1e-5 * magnitude + 1e-6)
          << "m " << m << " n " << n << " k " << columns;
    }
  }
  for (std::int64_t m = 0; m < count; ++m) {
    EXPECT_EQ(output[m * stride], -1.0f) << "a row that was not asked for";
    EXPECT_EQ(output[m * stride + rows - 1], -1.0f) << "a row that was not asked for";
    EXPECT_EQ(output[m * stride + rows], -1.0f) << "behind the last row";
  }
}

TEST_P(LinearKernelTest, EqualsDoublePrecisionForAnyShape) {
  const auto [format, set] = GetParam();
  unsigned seed = 1;
  for (const std::int64_t columns : {1, 4, 24, 32, 64, 288, 300, 2112}) {
    if (is_quantized(format) && columns % 32 != 0) continue;
    const Weights weights(format, 8, columns, ++seed);
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
    const Weights weights(format, 8, 2112, 3, group);
    for (const std::int64_t count : {1, 8}) expect_product(weights, count, set);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, LinearKernelTest,
    ::testing::Combine(::testing::Values(WeightFormat::kFloat32, WeightFormat::kBFloat16,
                                         WeightFormat::kFloat16, WeightFormat::kInt8, WeightFormat::kInt4),
                       ::testing::Values(LinearSet::kPortable, LinearSet::kAvx2, LinearSet::kAvx512)));

INSTANTIATE_TEST_SUITE_P(All, QuantizedKernelTest,
                         ::testing::Combine(::testing::Values(WeightFormat::kInt8, WeightFormat::kInt4),
                                            ::testing::Values(LinearSet::kPortable, LinearSet::kAvx2,
                                                              LinearSet::kAvx512)));

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
        const float scale = quantized.view().scales[r * 2 + column / 64].scale;
        EXPECT_NEAR(row[column], values[r * 128 + column], 0.5001f * scale);
      }
    }
    EXPECT_EQ(quantized.bytes(), 5 * (128 * bits / 8 + 2 * 8));
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
