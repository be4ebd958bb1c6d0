// How the elements of a weight matrix lie in memory.
//
// A matrix has `rows` output features and `columns` input features, row after row, as torch's Linear has it.
// kInt8 and kInt4 are groupwise and asymmetric: the elements of a row are cut into groups of `group_size`
// columns, and w = scale * q + minimum, with q in 0..255 or 0..15 and one fp32 pair {scale, minimum} a group.
// They lie in bands of 16 rows, which are the 16 words of a vector: kInt8 has, for each 4 columns in turn, 64
// bytes, of which 4 * r + c is column c of row r; kInt4 has 64 bytes for each 8 columns, of which 4 * r + c
// holds column c in its low and column c + 4 in its high half. A last band of fewer rows is filled up with
// zeros.
//
// Follows: "LLM.int8()" and "GPTQ" name the scheme weight-only, groupwise; DeepSpeed's ZeRO-Inference has
// group size 64.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepscale {

enum class WeightFormat : std::uint8_t { kFloat32, kBFloat16, kFloat16, kInt8, kInt4 };

constexpr std::int64_t kBandRows = 16;

// Of one group of columns in a band.
struct BandScales {
  float scale[kBandRows] = {};
  float minimum[kBandRows] = {};
};

// A view; owns nothing.
struct WeightMatrix {
  WeightFormat format = WeightFormat::kFloat32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::byte* data = nullptr;
  const BandScales* scales = nullptr;  // [bands, columns / group_size]; null unless quantised
  std::int64_t group_size = 0;         // a multiple of 32 that divides columns; 0 unless quantised
};

constexpr bool is_quantized(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt4;
}

constexpr std::int64_t bands_of(std::int64_t rows) {
  return (rows + kBandRows - 1) / kBandRows;
}

// Bytes of one row's elements, without the scales. Quantised, a band has those of 16 rows.
constexpr std::int64_t row_bytes(WeightFormat format, std::int64_t columns) {
  switch (format) {
    case WeightFormat::kFloat32:
      return columns * 4;
    case WeightFormat::kBFloat16:
    case WeightFormat::kFloat16:
      return columns * 2;
    case WeightFormat::kInt8:
      return columns;
    case WeightFormat::kInt4:
      return columns / 2;
  }
  return 0;
}

// Bytes of all elements of a matrix, those that fill up its last band included.
constexpr std::int64_t matrix_bytes(const WeightMatrix& matrix) {
  const std::int64_t rows = is_quantized(matrix.format) ? bands_of(matrix.rows) * kBandRows : matrix.rows;
  return rows * row_bytes(matrix.format, matrix.columns);
}

// Columns that the four bytes of a row in a band hold.
constexpr std::int64_t word_columns(WeightFormat format) {
  return format == WeightFormat::kInt8 ? 4 : 8;
}

// Where the four bytes with an element lie in a quantised matrix.
constexpr std::int64_t word_place(const WeightMatrix& matrix, std::int64_t row, std::int64_t column) {
  constexpr std::int64_t kWordBytes = 4;
  return row / kBandRows * kBandRows * row_bytes(matrix.format, matrix.columns) +
         (column / word_columns(matrix.format) * kBandRows + row % kBandRows) * kWordBytes;
}

constexpr std::int64_t scale_bytes(const WeightMatrix& matrix) {
  if (!is_quantized(matrix.format)) return 0;
  return bands_of(matrix.rows) * (matrix.columns / matrix.group_size) *
         static_cast<std::int64_t>(sizeof(BandScales));
}

}  // namespace deepscale
