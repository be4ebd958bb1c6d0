// The loops of linear_kernel.h for one instruction set. The file of a set is compiled for it, and gives
// `Set`: a type local to that file with vectors of kWidth floats. No code of one set may be shared with
// another file, so nothing of the standard library is used here.
#pragma once

#include <cstdint>

#include "runtime/inference/linear_kernel.h"

namespace deepscale {

template <bool kFirst, typename First, typename Second>
struct Picked {
  using Type = First;
};
template <typename First, typename Second>
struct Picked<false, First, Second> {
  using Type = Second;
};
template <bool kFirst, typename First, typename Second>
using Pick = typename Picked<kFirst, First, Second>::Type;

// The functions of one instruction set.
struct LinearLoops {
  void (*multiply)(const LinearProduct& product);
  void (*widen_row)(const WeightMatrix& weights, std::int64_t row, float* output);
};

const LinearLoops& portable_linear_loops();
// Null where this build has no loops for the set.
const LinearLoops* avx2_linear_loops();
const LinearLoops* avx512_linear_loops();

template <typename Set>
struct Linear {
  using Vector = typename Set::Vector;
  static constexpr int kVectors = 16 / Set::kWidth;  // elements are taken 16 at a time

  struct Row {
    const std::byte* data = nullptr;
    const GroupScale* scales = nullptr;
    std::int64_t group_size = 0;
  };

  static Row row_of(const WeightMatrix& weights, std::int64_t index) {
    Row row{weights.data + index * row_bytes(weights.format, weights.columns)};
    if (weights.scales != nullptr) {
      row.scales = weights.scales + index * (weights.columns / weights.group_size);
      row.group_size = weights.group_size;
    }
    return row;
  }

  template <WeightFormat kFormat>
  using Stored = Pick<kFormat == WeightFormat::kFloat32, float, std::uint16_t>;

  // The last elements of a row that is no multiple of 16 long, with zeros behind them.
  template <typename Element>
  struct Padded {
    Padded(const Element* from, std::int64_t count) {
      for (std::int64_t i = 0; i < 16; ++i) values[i] = i < count ? from[i] : Element{};
    }
    Element values[16];
  };

  // The `count` < 16 elements from `column` on, widened, and zeros. Quantised rows have no such rest.
  template <WeightFormat kFormat>
  static void widen_rest(const Row& row, std::int64_t column, std::int64_t count, Vector* out) {
    if constexpr (kFormat == WeightFormat::kInt8 || kFormat == WeightFormat::kInt4) {
      for (int i = 0; i < kVectors; ++i) out[i] = Set::broadcast(0.0f);
    } else {
      const Padded<Stored<kFormat>> rest(reinterpret_cast<const Stored<kFormat>*>(row.data) + column, count);
      widen<kFormat>(Row{reinterpret_cast<const std::byte*>(rest.values)}, 0, out);
    }
  }

  // The 16 elements from `column` on, widened.
  template <WeightFormat kFormat>
  static inline void widen(const Row& row, std::int64_t column, Vector* out) {
    if constexpr (kFormat == WeightFormat::kInt8 || kFormat == WeightFormat::kInt4) {
      const GroupScale group = row.scales[column / row.group_size];
      const Vector scale = Set::broadcast(group.scale), minimum = Set::broadcast(group.minimum);
      const auto* data = reinterpret_cast<const std::uint8_t*>(row.data);
      for (int i = 0; i < kVectors; ++i) {
        Vector value;
        if constexpr (kFormat == WeightFormat::kInt8) {
          value = Set::load_u8(data + column + i * Set::kWidth);
        } else {
          const std::uint8_t* pair = data + column / 32 * 16 + i * Set::kWidth;
          value = column % 32 == 0 ? Set::load_low_u4(pair) : Set::load_high_u4(pair);
        }
        out[i] = Set::multiply_add(value, scale, minimum);
      }
    } else {
      for (int i = 0; i < kVectors; ++i) {
        const std::int64_t at = column + i * Set::kWidth;
        if constexpr (kFormat == WeightFormat::kFloat32)
          out[i] = Set::load(reinterpret_cast<const float*>(row.data) + at);
        else if constexpr (kFormat == WeightFormat::kBFloat16)
          out[i] = Set::load_bf16(reinterpret_cast<const std::uint16_t*>(row.data) + at);
        else
          out[i] = Set::load_fp16(reinterpret_cast<const std::uint16_t*>(row.data) + at);
      }
    }
  }

  template <WeightFormat kFormat>
  static void widen_whole_row(const WeightMatrix& weights, std::int64_t index, float* output) {
    const Row row = row_of(weights, index);
    Vector values[kVectors];
    std::int64_t column = 0;
    for (; column + 16 <= weights.columns; column += 16) {
      widen<kFormat>(row, column, values);
      for (int i = 0; i < kVectors; ++i) Set::store(output + column + i * Set::kWidth, values[i]);
    }
    if (column == weights.columns) return;
    widen_rest<kFormat>(row, column, weights.columns - column, values);
    float rest[16];
    for (int i = 0; i < kVectors; ++i) Set::store(rest + i * Set::kWidth, values[i]);
    for (int i = 0; column < weights.columns; ++i, ++column) output[column] = rest[i];
  }

  // A part of the columns. The first one sets the output, the others add to it.
  struct Columns {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  // kRows rows of weights times kCount rows of activations: the sums stay in registers, and weights are
  // widened once for all activations.
  template <WeightFormat kFormat, int kRows, int kCount>
  static void tile(const LinearProduct& product, std::int64_t first_row, std::int64_t first_input,
                   Columns part) {
    const std::int64_t columns = product.weights.columns;
    const float* input = product.input + first_input * columns;
    Row rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = row_of(product.weights, first_row + r);
    Vector sums[kRows][kCount];
    for (int r = 0; r < kRows; ++r)
      for (int m = 0; m < kCount; ++m) sums[r][m] = Set::broadcast(0.0f);
    Vector widened[kRows][kVectors];
    std::int64_t k = part.begin;
    for (; k + 16 <= part.end; k += 16) {
      for (int r = 0; r < kRows; ++r) widen<kFormat>(rows[r], k, widened[r]);
      for (int m = 0; m < kCount; ++m) {
        for (int i = 0; i < kVectors; ++i) {
          const Vector x = Set::load(input + m * columns + k + i * Set::kWidth);
          for (int r = 0; r < kRows; ++r) sums[r][m] = Set::multiply_add(widened[r][i], x, sums[r][m]);
        }
      }
    }
    if (k < part.end) {
      for (int r = 0; r < kRows; ++r) widen_rest<kFormat>(rows[r], k, part.end - k, widened[r]);
      for (int m = 0; m < kCount; ++m) {
        const Padded<float> x(input + m * columns + k, part.end - k);
        for (int r = 0; r < kRows; ++r)
          for (int i = 0; i < kVectors; ++i)
            sums[r][m] = Set::multiply_add(widened[r][i], Set::load(x.values + i * Set::kWidth), sums[r][m]);
      }
    }
    float* output = product.output + first_input * product.output_stride + first_row;
    for (int m = 0; m < kCount; ++m) {
      for (int r = 0; r < kRows; ++r) {
        float& result = output[m * product.output_stride + r];
        result = (part.begin == 0 ? 0.0f : result) + Set::sum(sums[r][m]);
      }
    }
  }

  // All rows of weights, for kCount activations and a part of the columns.
  template <WeightFormat kFormat, int kCount>
  static void multiply_rows(const LinearProduct& product, std::int64_t input, Columns part) {
    std::int64_t row = product.row_begin;
    for (; row + Set::kTileRows <= product.row_end; row += Set::kTileRows)
      tile<kFormat, Set::kTileRows, kCount>(product, row, input, part);
    for (; row < product.row_end; ++row) tile<kFormat, 1, kCount>(product, row, input, part);
  }

  // For `count` activations, which is at most kMostCount.
  template <WeightFormat kFormat, int kCount = Set::kMostCount>
  static void multiply_count(const LinearProduct& product, std::int64_t input, std::int64_t count,
                             Columns part) {
    if constexpr (kCount > 0) {
      if (count == kCount) return multiply_rows<kFormat, kCount>(product, input, part);
      multiply_count<kFormat, kCount - 1>(product, input, count, part);
    }
  }

  // Activations go through in parts that stay in the first-level cache while all rows of weights pass by.
  template <WeightFormat kFormat>
  static void multiply_format(const LinearProduct& product) {
    constexpr std::int64_t kCachedFloats = 8192;
    const std::int64_t columns = product.weights.columns;
    const std::int64_t tall = product.count < Set::kMostCount ? product.count : Set::kMostCount;
    const std::int64_t width = kCachedFloats / tall / 32 * 32;
    for (std::int64_t begin = 0; begin < columns; begin += width) {
      const Columns part{begin, begin + width < columns ? begin + width : columns};
      for (std::int64_t m = 0; m < product.count; m += tall)
        multiply_count<kFormat>(product, m, product.count - m < tall ? product.count - m : tall, part);
    }
  }

  static void multiply(const LinearProduct& product) {
    switch (product.weights.format) {
      case WeightFormat::kFloat32:
        return multiply_format<WeightFormat::kFloat32>(product);
      case WeightFormat::kBFloat16:
        return multiply_format<WeightFormat::kBFloat16>(product);
      case WeightFormat::kFloat16:
        return multiply_format<WeightFormat::kFloat16>(product);
      case WeightFormat::kInt8:
        return multiply_format<WeightFormat::kInt8>(product);
      case WeightFormat::kInt4:
        return multiply_format<WeightFormat::kInt4>(product);
    }
  }

  static void widen_row(const WeightMatrix& weights, std::int64_t row, float* output) {
    switch (weights.format) {
      case WeightFormat::kFloat32:
        return widen_whole_row<WeightFormat::kFloat32>(weights, row, output);
      case WeightFormat::kBFloat16:
        return widen_whole_row<WeightFormat::kBFloat16>(weights, row, output);
      case WeightFormat::kFloat16:
        return widen_whole_row<WeightFormat::kFloat16>(weights, row, output);
      case WeightFormat::kInt8:
        return widen_whole_row<WeightFormat::kInt8>(weights, row, output);
      case WeightFormat::kInt4:
        return widen_whole_row<WeightFormat::kInt4>(weights, row, output);
    }
  }
};

}  // namespace deepscale
