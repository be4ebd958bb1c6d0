#include "comm/base/half.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "comm/base/half_blocks.h"

namespace deepscale {
namespace {

// The value of a binary format with `exponent_bits` and `fraction_bits`, straight from its definition.
double value_of(std::uint16_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

double fp16_value(std::uint16_t bits) {
  return value_of(bits, 5, 10);
}
double bf16_value(std::uint16_t bits) {
  return value_of(bits, 8, 7);
}

// Rounds by looking for the two neighbours: no arithmetic in common with the code under test. Positive finite
// values.
template <typename ValueOf>
std::uint16_t nearest(double value, std::uint16_t infinity, ValueOf value_of_bits) {
  std::uint16_t low = 0, high = infinity;  // low <= value < high
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (value_of_bits(middle) <= value ? low : high) = middle;
  }
  // Infinity stands for the number that would come next.
  const double step_below = value_of_bits(low) - value_of_bits(static_cast<std::uint16_t>(low - 1));
  const double above = high == infinity ? value_of_bits(low) + step_below : value_of_bits(high);
  const double to_low = value - value_of_bits(low), to_high = above - value;
  if (to_low != to_high) return to_low < to_high ? low : high;
  return low % 2 == 0 ? low : high;
}

TEST(Half, EveryFp16HasItsValueAndSurvivesTheWayThere) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = fp16_to_float(half);
    if (std::isnan(fp16_value(half))) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(fp16_to_float(float_to_fp16(value)))) << bits;
    } else {
      ASSERT_EQ(value, fp16_value(half)) << bits;
      ASSERT_EQ(float_to_fp16(value), half) << bits;
    }
  }
}

TEST(Half, EveryBf16HasItsValueAndSurvivesTheWayThere) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = bf16_to_float(half);
    if (std::isnan(bf16_value(half))) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << bits;
    } else {
      ASSERT_EQ(value, bf16_value(half)) << bits;
      ASSERT_EQ(float_to_bf16(value), half) << bits;
    }
  }
}

TEST(Half, RoundsRandomValuesToTheNearestAndTiesToEven) {
  constexpr std::uint32_t kSeed = 7;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  for (int i = 0; i < 200000; ++i) {
    std::uint32_t bits = random() & 0x7fffffff;
    if (i % 2 == 0) bits = 0x32000000 + bits % 0x17000000;  // where fp16 has values
    const float value = std::bit_cast<float>(bits);
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(float_to_fp16(value), nearest(value, 0x7c00, fp16_value)) << value;
    ASSERT_EQ(float_to_fp16(-value), nearest(value, 0x7c00, fp16_value) | 0x8000) << value;
    ASSERT_EQ(float_to_bf16(value), nearest(value, 0x7f80, bf16_value)) << value;
    ASSERT_EQ(float_to_bf16(-value), nearest(value, 0x7f80, bf16_value) | 0x8000) << value;
  }
}

TEST(Half, RoundsExactlyHalfwayValuesToEven) {
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const auto halfway =
        static_cast<float>((fp16_value(bits) + fp16_value(static_cast<std::uint16_t>(bits + 1))) / 2);
    ASSERT_EQ(float_to_fp16(halfway), bits % 2 == 0 ? bits : bits + 1) << bits;
  }
  for (std::uint16_t bits = 0x0080; bits < 0x7f7f; ++bits) {
    const float halfway = std::bit_cast<float>((static_cast<std::uint32_t>(bits) << 16) + 0x8000u);
    ASSERT_EQ(float_to_bf16(halfway), bits % 2 == 0 ? bits : bits + 1) << bits;
  }
}

TEST(Half, KeepsWhatIsNotANumberAndSaturatesToInfinity) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(float_to_fp16(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_fp16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_fp16(-infinity), 0xfc00);
  EXPECT_EQ(float_to_bf16(infinity), 0x7f80);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  // The payload is in the bits that do not fit: a careless shift or rounding makes these an infinity, or
  // zero.
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    const float nan = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(fp16_to_float(float_to_fp16(nan)))) << bits;
    EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(nan)))) << bits;
  }
}

constexpr InstructionSet kSets[] = {InstructionSet::kPortable, InstructionSet::kAvx2,
                                    InstructionSet::kAvx512};

// Every value there is, and from a position that is not aligned.
TEST(HalfBlocks, WidenEveryFp16AsOneAtATime) {
  std::vector<std::uint16_t> halves(0x10000 + 7);
  std::iota(halves.begin(), halves.end(), std::uint16_t{0});
  for (const InstructionSet set : kSets) {
    std::vector<float> floats(halves.size() - 1);
    half_blocks(set).widen(reinterpret_cast<const std::byte*>(halves.data() + 1), floats.data(),
                           static_cast<std::int64_t>(floats.size()));
    for (std::size_t i = 0; i < floats.size(); ++i) {
      const float expected = fp16_to_float(halves[i + 1]);
      ASSERT_TRUE(std::bit_cast<std::uint32_t>(floats[i]) == std::bit_cast<std::uint32_t>(expected) ||
                  (std::isnan(floats[i]) && std::isnan(expected)))
          << "set " << static_cast<int>(set) << " value " << halves[i + 1];
    }
  }
}

TEST(HalfBlocks, NarrowAsOneAtATime) {
  std::mt19937 random(3);
  std::vector<float> floats(200'003);
  for (std::size_t i = 0; i < floats.size(); ++i) {
    std::uint32_t bits = random();
    if (i % 2 == 0)
      bits = (bits & 0x80000000u) | (0x32000000u + bits % 0x17000000u);  // where fp16 has values
    floats[i] = std::bit_cast<float>(bits);
  }
  for (const InstructionSet set : kSets) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{15}, floats.size()}) {
      std::vector<std::uint16_t> halves(count + 1, 0xabcd), expected(count + 1, 0xabcd);
      half_blocks(set).narrow(floats.data(), reinterpret_cast<std::byte*>(halves.data()),
                              static_cast<std::int64_t>(count));
      std::transform(floats.begin(), floats.begin() + static_cast<std::ptrdiff_t>(count), expected.begin(),
                     float_to_fp16);
      ASSERT_EQ(halves, expected) << "set " << static_cast<int>(set);
    }
  }
}

}  // namespace
}  // namespace deepscale
