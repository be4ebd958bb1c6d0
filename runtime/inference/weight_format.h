// How the elements of a weight matrix lie in memory.
//
// A matrix has `rows` output features and `columns` input features, row after row, as torch's Linear has it.
// kInt8 and kInt4 are groupwise and asymmetric: the elements of a row are cut into groups of `group_size`
// columns, and w = scale * q + minimum, with q in 0..255 or 0..15 and one fp32 pair {scale, minimum} a group.
// kInt4 packs two elements a byte: of each 32 columns, byte i holds column i in its low and column i + 16 in
// its high half, so that both halves of 16 bytes are 16 columns in a row.
//
// Follows: "LLM.int8()" and "GPTQ" name the scheme weight-only, groupwise; DeepSpeed's ZeRO-Inference has
// group size 64.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepscale {

enum class WeightFormat : std::uint8_t { kFloat32, kBFloat16, kFloat16, kInt8, kInt4 };

struct GroupScale {
  float scale = 0;
  float minimum = 0;
};

// A view; owns nothing.
struct WeightMatrix {
  WeightFormat format = WeightFormat::kFloat32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::byte* data = nullptr;
  const GroupScale* scales = nullptr;  // rows * columns / group_size of them; null unless quantised
  std::int64_t group_size = 0;         // a multiple of 32 that divides columns; 0 unless quantised
};

// Bytes of one row's elements, without the scales.
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

constexpr std::int64_t scale_bytes(const WeightMatrix& matrix) {
  if (matrix.group_size == 0) return 0;
  return matrix.rows * (matrix.columns / matrix.group_size) * static_cast<std::int64_t>(sizeof(GroupScale));
}

constexpr std::int64_t element_bytes(const WeightMatrix& matrix) {
  return matrix.rows * row_bytes(matrix.format, matrix.columns);
}

}  // namespace deepscale
