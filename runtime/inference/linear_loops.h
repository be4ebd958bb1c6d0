// The loops of linear_kernel.h for one instruction set. The file of a set is compiled for it, and gives
// `Set`: a type local to that file with vectors of kWidth floats. No code of one set may be shared with
// another file, so nothing of the standard library is used here.
#pragma once

#include <cstdint>

#include "runtime/inference/linear_kernel.h"
#include "runtime/inference/quantized_loops.h"

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
  void (*multiply)(const LinearProduct& product);  // of weights that are not quantised
  void (*widen_row)(const WeightMatrix& weights, std::int64_t row, float* output);
  QuantizedLoops quantized;
};

const LinearLoops& portable_linear_loops();
// Null where this build has no loops for the set.
const LinearLoops* avx2_linear_loops();
const LinearLoops* avx512_linear_loops();
const QuantizedLoops* vnni_quantized_loops();

template <typename Set>
struct Linear {
  using Vector = typename Set::Vector;
  static constexpr int kUnit = 32;  // elements are taken 32 at a time
  static constexpr int kVectors = kUnit / Set::kWidth;

  static const std::byte* row_of(const WeightMatrix& weights, std::int64_t index) {
    return weights.data + index * row_bytes(weights.format, weights.columns);
  }

  template <WeightFormat kFormat>
  using Stored = Pick<kFormat == WeightFormat::kFloat32, float, std::uint16_t>;

  // Up to kUnit elements, with zeros behind them: the end of a row that is no multiple of kUnit long.
  template <typename Element>
  struct Padded {
    void assign(const Element* from, std::int64_t count) {
      for (std::int64_t i = 0; i < kUnit; ++i) values[i] = i < count ? from[i] : Element{};
    }
    Element values[kUnit];
  };

  template <WeightFormat kFormat>
  static const std::byte* padded_row(const std::byte* row, std::int64_t column, std::int64_t count,
                                     Padded<Stored<kFormat>>& padded) {
    padded.assign(reinterpret_cast<const Stored<kFormat>*>(row) + column, count);
    return reinterpret_cast<const std::byte*>(padded.values);
  }

  // Vector `i` of the unit that begins at `column`, widened.
  template <WeightFormat kFormat>
  static inline Vector widen(const std::byte* row, std::int64_t column, int i) {
    const auto* at = reinterpret_cast<const Stored<kFormat>*>(row) + column + i * Set::kWidth;
    if constexpr (kFormat == WeightFormat::kFloat32) {
      return Set::load(at);
    } else if constexpr (kFormat == WeightFormat::kBFloat16) {
      return Set::load_bf16(at);
    } else {
      return Set::load_fp16(at);
    }
  }

  template <WeightFormat kFormat>
  static void widen_whole_row(const WeightMatrix& weights, std::int64_t index, float* output) {
    const std::byte* row = row_of(weights, index);
    std::int64_t column = 0;
    for (; column + kUnit <= weights.columns; column += kUnit)
      for (int i = 0; i < kVectors; ++i)
        Set::store(output + column + i * Set::kWidth, widen<kFormat>(row, column, i));
    Padded<Stored<kFormat>> padded;
    const std::byte* end = padded_row<kFormat>(row, column, weights.columns - column, padded);
    float rest[kUnit];
    for (int i = 0; i < kVectors; ++i) Set::store(rest + i * Set::kWidth, widen<kFormat>(end, 0, i));
    for (int i = 0; column < weights.columns; ++i, ++column) output[column] = rest[i];
  }

  // What one thread has in its caches, besides the weights that pass by.
  static constexpr std::int64_t kPackedFloats = 8192;  // fills two thirds of a first-level cache
  struct Pass {
    // Some rows of activations in a part of the columns, in the order in which the tiles read them: for each
    // vector of columns, that of every row.
    alignas(64) float packed[kPackedFloats];
    std::int64_t input = 0;  // the first row of activations
    std::int64_t begin = 0;  // the part of the columns
    std::int64_t end = 0;
    // The block of weights in work, and what is fetched of the next one meanwhile, in the order of memory:
    // the processor continues such a stream by itself, and the tiles' own order gives it none.
    std::int64_t row_begin = 0;
    std::int64_t row_end = 0;
    const std::byte* ahead = nullptr;
    const std::byte* ahead_end = nullptr;
    std::int64_t ahead_rate = 1;  // bytes fetched for a byte in work
  };

  static void pack(const LinearProduct& product, std::int64_t count, Pass& pass) {
    const std::int64_t columns = product.weights.columns;
    for (std::int64_t m = 0; m < count; ++m) {
      const float* input = product.input + (pass.input + m) * columns;
      float* output = pass.packed + m * Set::kWidth;
      std::int64_t k = pass.begin;
      for (; k + kUnit <= pass.end; k += kUnit)
        for (int i = 0; i < kVectors; ++i, output += count * Set::kWidth)
          Set::store(output, Set::load(input + k + i * Set::kWidth));
      if (k == pass.end) continue;
      Padded<float> rest;
      rest.assign(input + k, pass.end - k);
      for (int i = 0; i < kVectors; ++i, output += count * Set::kWidth)
        Set::store(output, Set::load(rest.values + i * Set::kWidth));
    }
  }

  // kRows rows of weights times kCount rows of activations: the sums stay in registers, and weights are
  // widened once for all activations.
  template <WeightFormat kFormat, int kRows, int kCount>
  struct Tile {
    const std::byte* rows[kRows];
    Vector sums[kRows][kCount];

    Tile(const WeightMatrix& weights, std::int64_t first_row) {
      for (int r = 0; r < kRows; ++r) {
        rows[r] = row_of(weights, first_row + r);
        for (int m = 0; m < kCount; ++m) sums[r][m] = Set::broadcast(0.0f);
      }
    }

    void add_unit(const std::byte* const* from, std::int64_t column, const float* packed) {
      for (int i = 0; i < kVectors; ++i) {
        Vector widened[kRows];
        for (int r = 0; r < kRows; ++r) widened[r] = widen<kFormat>(from[r], column, i);
        for (int m = 0; m < kCount; ++m) {
          const Vector x = Set::load(packed + (i * kCount + m) * Set::kWidth);
          for (int r = 0; r < kRows; ++r) sums[r][m] = Set::multiply_add(widened[r], x, sums[r][m]);
        }
      }
    }

    void add_rest(std::int64_t column, std::int64_t count, const float* packed) {
      Padded<Stored<kFormat>> padded[kRows];
      const std::byte* ends[kRows];
      for (int r = 0; r < kRows; ++r) ends[r] = padded_row<kFormat>(rows[r], column, count, padded[r]);
      add_unit(ends, 0, packed);
    }
  };

  template <WeightFormat kFormat, int kRows, int kCount>
  static void multiply_tile(const LinearProduct& product, std::int64_t first_row, Pass& pass) {
    const WeightMatrix& weights = product.weights;
    Tile<kFormat, kRows, kCount> tile(weights, first_row);
    const float* packed = pass.packed;
    const std::byte* ahead = pass.ahead;
    const std::int64_t whole = pass.begin + (pass.end - pass.begin) / kUnit * kUnit;
    std::int64_t k = pass.begin;
    for (; k < whole; k += kUnit, packed += kUnit * kCount) {
      ahead = fetch(ahead, kRows * row_bytes(kFormat, kUnit) * pass.ahead_rate, pass.ahead_end);
      tile.add_unit(tile.rows, k, packed);
    }
    pass.ahead = ahead;
    if (k < pass.end) tile.add_rest(k, pass.end - k, packed);
    float* output = product.output + pass.input * product.output_stride + first_row;
    for (int r = 0; r < kRows; ++r) {
      float results[kCount];
      Set::sums(tile.sums[r], results);
      for (int m = 0; m < kCount; ++m) {
        float& result = output[m * product.output_stride + r];
        result = (pass.begin == 0 ? 0.0f : result) + results[m];
      }
    }
  }

  // Has some bytes of a stream fetched, and returns what follows them.
  static inline const std::byte* fetch(const std::byte* next, std::int64_t bytes, const std::byte* end) {
    constexpr std::int64_t kLine = 64;
    if (next >= end) return next;
    for (std::int64_t at = 0; at < bytes; at += kLine) Set::prefetch(next + at);
    return next + bytes;
  }

  template <WeightFormat kFormat, int kCount>
  static void multiply_rows(const LinearProduct& product, Pass& pass) {
    std::int64_t row = pass.row_begin;
    for (; row + Set::kTileRows <= pass.row_end; row += Set::kTileRows)
      multiply_tile<kFormat, Set::kTileRows, kCount>(product, row, pass);
    for (; row < pass.row_end; ++row) multiply_tile<kFormat, 1, kCount>(product, row, pass);
  }

  // For `count` activations, which is at most kMostCount.
  template <WeightFormat kFormat, int kCount = Set::kMostCount>
  static void multiply_count(const LinearProduct& product, std::int64_t count, Pass& pass) {
    if constexpr (kCount > 0) {
      if (count != kCount) return multiply_count<kFormat, kCount - 1>(product, count, pass);
      pack(product, kCount, pass);
      multiply_rows<kFormat, kCount>(product, pass);
    }
  }

  // A block of weights stays in the second-level cache while all activations pass by. The first blocks, which
  // nobody has fetched, are small.
  template <WeightFormat kFormat>
  static void multiply_format(const LinearProduct& product) {
    constexpr std::int64_t kBlockBytes = 256 * 1024, kGrowth = 2;
    const std::int64_t columns = product.weights.columns, bytes = row_bytes(kFormat, columns);
    const std::int64_t tallest = most(kBlockBytes / bytes, 8);
    const std::int64_t tall = least(product.count, Set::kMostCount);
    const std::int64_t width = kPackedFloats / tall / kUnit * kUnit;
    std::int64_t height = most(tallest / 16, 4);
    Pass pass;
    for (pass.row_begin = product.row_begin; pass.row_begin < product.row_end;
         pass.row_begin = pass.row_end) {
      pass.row_end = least(pass.row_begin + height, product.row_end);
      pass.ahead_rate = height < tallest ? kGrowth : 1;
      height = least(height * kGrowth, tallest);
      pass.ahead = product.weights.data + pass.row_end * bytes;
      pass.ahead_end = product.weights.data + least(pass.row_end + height, product.row_end) * bytes;
      for (pass.begin = 0; pass.begin < columns; pass.begin = pass.end) {
        pass.end = least(pass.begin + width, columns);
        for (pass.input = 0; pass.input < product.count; pass.input += tall)
          multiply_count<kFormat>(product, least(tall, product.count - pass.input), pass);
      }
    }
  }

  static std::int64_t most(std::int64_t left, std::int64_t right) { return left < right ? right : left; }
  static std::int64_t least(std::int64_t left, std::int64_t right) { return left < right ? left : right; }

  static void multiply(const LinearProduct& product) {
    switch (product.weights.format) {
      case WeightFormat::kFloat32:
        return multiply_format<WeightFormat::kFloat32>(product);
      case WeightFormat::kBFloat16:
        return multiply_format<WeightFormat::kBFloat16>(product);
      case WeightFormat::kFloat16:
        return multiply_format<WeightFormat::kFloat16>(product);
      case WeightFormat::kInt8:
      case WeightFormat::kInt4:
        return;
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
      case WeightFormat::kInt4:
        return;
    }
  }
};

}  // namespace deepscale
