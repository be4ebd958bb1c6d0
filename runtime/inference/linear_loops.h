// The loops of linear_kernel.h for one instruction set. The file of a set is compiled for it, and gives
// `Set`: a type local to that file with vectors of kWidth floats. No code of one set may be shared with
// another file, so nothing of the standard library is used here.
#pragma once

#include <cstdint>

#include "runtime/inference/linear_kernel.h"

namespace deepscale {

constexpr int kMostTileRows = 2;

// The functions of one instruction set.
struct LinearLoops {
  // `scratch` has room for kMostTileRows rows of weights.
  void (*multiply)(const LinearProduct& product, float* scratch);
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
    for (std::int64_t column = 0; column < weights.columns; column += 16) {
      Vector values[kVectors];
      widen<kFormat>(row, column, values);
      for (int i = 0; i < kVectors; ++i) Set::store(output + column + i * Set::kWidth, values[i]);
    }
  }

  // kRows rows of weights times kCount rows of activations: the sums stay in registers, and weights are
  // widened once for all activations.
  template <WeightFormat kFormat, int kRows, int kCount>
  static void tile(const WeightMatrix& weights, std::int64_t first_row, const float* input, float* output,
                   std::int64_t output_stride) {
    const std::int64_t columns = weights.columns;
    Row rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = row_of(weights, first_row + r);
    Vector sums[kRows][kCount];
    for (int r = 0; r < kRows; ++r)
      for (int m = 0; m < kCount; ++m) sums[r][m] = Set::broadcast(0.0f);
    for (std::int64_t k = 0; k < columns; k += 16) {
      Vector widened[kRows][kVectors];
      for (int r = 0; r < kRows; ++r) widen<kFormat>(rows[r], k, widened[r]);
      for (int m = 0; m < kCount; ++m) {
        for (int i = 0; i < kVectors; ++i) {
          const Vector x = Set::load(input + m * columns + k + i * Set::kWidth);
          for (int r = 0; r < kRows; ++r) sums[r][m] = Set::multiply_add(widened[r][i], x, sums[r][m]);
        }
      }
    }
    for (int m = 0; m < kCount; ++m)
      for (int r = 0; r < kRows; ++r) output[m * output_stride + r] = Set::sum(sums[r][m]);
  }

  // Calls the tile for `count`, which is at most kMostCount.
  template <WeightFormat kFormat, int kRows, int kCount = Set::kMostCount>
  static void tile_of_count(std::int64_t count, const WeightMatrix& weights, std::int64_t first_row,
                            const float* input, float* output, std::int64_t stride) {
    if constexpr (kCount > 0) {
      if (count == kCount) return tile<kFormat, kRows, kCount>(weights, first_row, input, output, stride);
      tile_of_count<kFormat, kRows, kCount - 1>(count, weights, first_row, input, output, stride);
    }
  }

  // All activations, with kRows rows of weights.
  template <WeightFormat kFormat, int kRows>
  static void multiply_rows(const LinearProduct& product, const WeightMatrix& weights,
                            std::int64_t weight_row, std::int64_t output_row) {
    for (std::int64_t m = 0; m < product.count; m += Set::kMostCount) {
      const std::int64_t left = product.count - m;
      tile_of_count<kFormat, kRows>(left < Set::kMostCount ? left : Set::kMostCount, weights, weight_row,
                                    product.input + m * weights.columns,
                                    product.output + m * product.output_stride + output_row,
                                    product.output_stride);
    }
  }

  // Many activations would widen a row again and again; then it is done once, into a piece that stays in
  // cache.
  template <WeightFormat kFormat, int kRows>
  static void multiply_widened(const LinearProduct& product, std::int64_t row, float* scratch) {
    for (int r = 0; r < kRows; ++r)
      widen_whole_row<kFormat>(product.weights, row + r, scratch + r * product.weights.columns);
    const WeightMatrix widened{WeightFormat::kFloat32, kRows, product.weights.columns,
                               reinterpret_cast<const std::byte*>(scratch)};
    multiply_rows<WeightFormat::kFloat32, kRows>(product, widened, 0, row);
  }

  template <WeightFormat kFormat>
  static void multiply_format(const LinearProduct& product, float* scratch) {
    static_assert(Set::kTileRows <= kMostTileRows);
    const bool widens = kFormat != WeightFormat::kFloat32 && product.count > Set::kMostCount;
    std::int64_t row = product.row_begin;
    for (; row + Set::kTileRows <= product.row_end; row += Set::kTileRows) {
      if (widens)
        multiply_widened<kFormat, Set::kTileRows>(product, row, scratch);
      else
        multiply_rows<kFormat, Set::kTileRows>(product, product.weights, row, row);
    }
    for (; row < product.row_end; ++row) multiply_rows<kFormat, 1>(product, product.weights, row, row);
  }

  static void multiply(const LinearProduct& product, float* scratch) {
    switch (product.weights.format) {
      case WeightFormat::kFloat32:
        return multiply_format<WeightFormat::kFloat32>(product, scratch);
      case WeightFormat::kBFloat16:
        return multiply_format<WeightFormat::kBFloat16>(product, scratch);
      case WeightFormat::kFloat16:
        return multiply_format<WeightFormat::kFloat16>(product, scratch);
      case WeightFormat::kInt8:
        return multiply_format<WeightFormat::kInt8>(product, scratch);
      case WeightFormat::kInt4:
        return multiply_format<WeightFormat::kInt4>(product, scratch);
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
