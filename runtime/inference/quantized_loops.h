// The loops of linear_kernel.h for quantised weights, of which a vector holds one column, or four, of the
// rows of a band (weight_format.h). Levels are multiplied as they are; scale and minimum come in once a run
// of columns. The file of an instruction set gives `Arithmetic`, a type local to that file; see
// linear_loops.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/inference/linear_kernel.h"

namespace deepscale {

// The functions of one instruction set. `packed` is memory of the caller's for that many bytes.
struct QuantizedLoops {
  std::int64_t (*packed_bytes)(const LinearProduct& product);
  void (*multiply)(const LinearProduct& product, std::byte* packed);
};

// Some columns of one group, and of some rows of activations: what is packed, and summed, at a time.
struct QuantizedRun {
  static constexpr std::int64_t kMostColumns = 256;

  const float* input = nullptr;  // [count, stride]
  std::int64_t stride = 0;
  std::int64_t columns = 0;
};

template <typename Arithmetic>
struct QuantizedLinear {
  using Vector = typename Arithmetic::Vector;
  static constexpr int kParts = kBandRows / Arithmetic::kWidth;
  static constexpr std::int64_t kWordBytes = 4;  // of one row in a band

  static std::int64_t least(std::int64_t left, std::int64_t right) { return left < right ? left : right; }

  // Calls work(group, begin, columns) for one run after the other.
  template <typename Work>
  static void visit_runs(const WeightMatrix& weights, const Work& work) {
    for (std::int64_t begin = 0; begin < weights.columns;) {
      const std::int64_t group = begin / weights.group_size;
      const std::int64_t end = least((group + 1) * weights.group_size, begin + QuantizedRun::kMostColumns);
      work(group, begin, end - begin);
      begin = end;
    }
  }

  static std::int64_t packed_row_bytes(const WeightMatrix& weights) {
    std::int64_t bytes = 0;
    visit_runs(weights, [&](std::int64_t, std::int64_t, std::int64_t columns) {
      bytes += Arithmetic::packed_bytes(columns);
    });
    return bytes;
  }

  static std::int64_t packed_bytes(const LinearProduct& product) {
    return product.count * packed_row_bytes(product.weights);
  }

  template <WeightFormat kFormat, int kCount>
  static void multiply_band(const LinearProduct& product, std::int64_t first_row, const std::byte* packed,
                            float* output) {
    const WeightMatrix& weights = product.weights;
    const auto* levels =
        reinterpret_cast<const std::uint8_t*>(weights.data) + first_row * row_bytes(kFormat, weights.columns);
    const BandScales* scales =
        weights.scales + first_row / kBandRows * (weights.columns / weights.group_size);
    Vector totals[kParts][kCount];
    for (int part = 0; part < kParts; ++part)
      for (int m = 0; m < kCount; ++m) totals[part][m] = Arithmetic::broadcast(0.0f);
    visit_runs(weights, [&](std::int64_t group, std::int64_t, std::int64_t columns) {
      for (int part = 0; part < kParts; ++part) {
        const std::int64_t row = part * Arithmetic::kWidth;
        typename Arithmetic::template Sums<kCount> sums(packed, columns);
        add_run<kFormat>(levels + row * kWordBytes, columns, sums);
        sums.add_to(totals[part], scales[group].scale + row, scales[group].minimum + row);
      }
      levels += kBandRows * row_bytes(kFormat, columns);
      packed += kCount * Arithmetic::packed_bytes(columns);
    });
    const std::int64_t rows = least(kBandRows, product.row_end - first_row);
    for (int m = 0; m < kCount; ++m) {
      float results[kBandRows];
      for (int part = 0; part < kParts; ++part)
        Arithmetic::store(results + part * Arithmetic::kWidth, totals[part][m]);
      for (std::int64_t r = 0; r < rows; ++r) output[m * product.output_stride + first_row + r] = results[r];
    }
  }

  template <WeightFormat kFormat, typename Sums>
  static inline void add_run(const std::uint8_t* levels, std::int64_t columns, Sums& sums) {
    constexpr std::int64_t kStep = kBandRows * kWordBytes;
    for (const std::uint8_t* end = levels + kBandRows * row_bytes(kFormat, columns); levels < end;
         levels += kStep) {
      Arithmetic::prefetch(levels + kAheadBytes);
      const auto words = Arithmetic::load_words(levels);
      if constexpr (kFormat == WeightFormat::kInt8) {
        sums.add(words);
      } else {
        sums.add(Arithmetic::low_halves(words));
        sums.add(Arithmetic::high_halves(words));
      }
    }
  }
  static constexpr std::int64_t kAheadBytes = 4096;

  // For `count` rows of activations, which is at most kMostCount.
  template <WeightFormat kFormat, int kCount = Arithmetic::kMostCount>
  static void multiply_count(const LinearProduct& product, std::int64_t count, std::int64_t first_row,
                             const std::byte* packed, float* output) {
    if constexpr (kCount > 0) {
      if (count != kCount)
        return multiply_count<kFormat, kCount - 1>(product, count, first_row, packed, output);
      multiply_band<kFormat, kCount>(product, first_row, packed, output);
    }
  }

  // A block of weights stays in the second-level cache while all activations pass by.
  template <WeightFormat kFormat>
  static void multiply_format(const LinearProduct& product, const std::byte* packed) {
    constexpr std::int64_t kBlockBytes = 256 * 1024;
    const std::int64_t band_bytes = kBandRows * row_bytes(kFormat, product.weights.columns);
    const std::int64_t height = (kBlockBytes / band_bytes + 1) * kBandRows;
    const std::int64_t row_bytes = packed_row_bytes(product.weights);
    for (std::int64_t begin = product.row_begin; begin < product.row_end; begin += height) {
      const std::int64_t end = least(begin + height, product.row_end);
      for (std::int64_t m = 0; m < product.count; m += Arithmetic::kMostCount) {
        const std::int64_t count = least(Arithmetic::kMostCount, product.count - m);
        for (std::int64_t row = begin; row < end; row += kBandRows)
          multiply_count<kFormat>(product, count, row, packed + m * row_bytes,
                                  product.output + m * product.output_stride);
      }
    }
  }

  static void pack(const LinearProduct& product, std::byte* packed) {
    const std::int64_t stride = product.weights.columns;
    for (std::int64_t m = 0; m < product.count; m += Arithmetic::kMostCount) {
      const int count = static_cast<int>(least(Arithmetic::kMostCount, product.count - m));
      visit_runs(product.weights, [&](std::int64_t, std::int64_t begin, std::int64_t columns) {
        Arithmetic::pack({product.input + m * stride + begin, stride, columns}, count, packed);
        packed += count * Arithmetic::packed_bytes(columns);
      });
    }
  }

  static void multiply(const LinearProduct& product, std::byte* packed) {
    pack(product, packed);
    if (product.weights.format == WeightFormat::kInt8) {
      multiply_format<WeightFormat::kInt8>(product, packed);
    } else {
      multiply_format<WeightFormat::kInt4>(product, packed);
    }
  }

  static constexpr QuantizedLoops kLoops{packed_bytes, multiply};
};

// Activations stay fp32, column after column; behind them is the sum of each row.
template <typename Set>
struct FloatArithmetic : Set {
  using Vector = typename Set::Vector;
  using Words = typename Set::Words;

  static constexpr std::int64_t packed_bytes(std::int64_t columns) {
    return (columns + 1) * static_cast<std::int64_t>(sizeof(float));
  }

  static void pack(const QuantizedRun& run, int count, std::byte* packed) {
    auto* values = reinterpret_cast<float*>(packed);
    float* sums = values + run.columns * count;
    for (int m = 0; m < count; ++m) {
      const float* input = run.input + m * run.stride;
      float sum = 0.0f;
      for (std::int64_t k = 0; k < run.columns; ++k) sum += values[k * count + m] = input[k];
      sums[m] = sum;
    }
  }

  template <int kCount>
  struct Sums {
    Sums(const std::byte* packed, std::int64_t columns)
        : next(reinterpret_cast<const float*>(packed)), input_sums(next + columns * kCount) {
      for (int m = 0; m < kCount; ++m) values[m] = Set::broadcast(0.0f);
    }

    // Four columns.
    void add(const Words& words) {
      add_column(Set::template byte_of<0>(words));
      add_column(Set::template byte_of<1>(words));
      add_column(Set::template byte_of<2>(words));
      add_column(Set::template byte_of<3>(words));
    }
    void add_column(const Vector& levels) {
      for (int m = 0; m < kCount; ++m)
        values[m] = Set::multiply_add(levels, Set::broadcast(next[m]), values[m]);
      next += kCount;
    }

    void add_to(Vector* totals, const float* scale, const float* minimum) const {
      const Vector scales = Set::load(scale), minima = Set::load(minimum);
      for (int m = 0; m < kCount; ++m) {
        totals[m] = Set::multiply_add(minima, Set::broadcast(input_sums[m]), totals[m]);
        totals[m] = Set::multiply_add(values[m], scales, totals[m]);
      }
    }

    const float* next;
    const float* input_sums;
    Vector values[kCount];
  };
};

}  // namespace deepscale
