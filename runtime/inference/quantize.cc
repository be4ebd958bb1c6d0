#include "runtime/inference/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "comm/base/error.h"
#include "runtime/inference/linear_kernel.h"
#include "runtime/inference/thread_team.h"

namespace deepscale {

namespace {

void check(const WeightMatrix& source, int bits, std::int64_t group_size) {
  if (bits != 8 && bits != 4)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("weights are quantised to 8 or 4 bits, not {}", bits));
  if (group_size < 32 || group_size % 32 != 0 || source.columns % group_size != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("a matrix of {} x {} cannot be quantised in groups of {}: the group size has to be a "
                    "multiple of 32 that divides the {} columns; try {}",
                    source.rows, source.columns, group_size, source.columns,
                    source.columns % 64 == 0 ? 64 : 32));
  }
}

// The loops are such that compilers make vectors of them without being allowed to reorder sums.
constexpr std::int64_t kLanes = 8;

struct GroupScale {
  float scale = 0;
  float minimum = 0;
};

bool all_finite(const std::vector<float>& values) {
  bool all = true;
  for (const float value : values) all &= std::abs(value) <= std::numeric_limits<float>::max();
  return all;
}

GroupScale scale_of(const float* group, std::int64_t count, int levels) {
  std::array<float, kLanes> least, greatest;
  std::copy_n(group, kLanes, least.begin());
  greatest = least;
  for (std::int64_t i = kLanes; i < count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const float value = group[i + lane];
      least[lane] = value < least[lane] ? value : least[lane];
      greatest[lane] = value > greatest[lane] ? value : greatest[lane];
    }
  }
  const float minimum = *std::min_element(least.begin(), least.end());
  return {(*std::max_element(greatest.begin(), greatest.end()) - minimum) / static_cast<float>(levels - 1),
          minimum};
}

// Replaces the elements of a group by their levels.
void round_to_levels(float* group, std::int64_t count, const GroupScale& scale, int levels) {
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
  const float divisor = scale.scale == 0 ? 1.0f : scale.scale, last = static_cast<float>(levels - 1);
  for (std::int64_t i = 0; i < count; ++i) {
    const float level = (group[i] - scale.minimum) / divisor + kWhole - kWhole;
    group[i] = level < last ? level : last;
  }
}

struct Quantized {
  WeightMatrix shape;
  std::uint8_t* levels = nullptr;
  BandScales* scales = nullptr;
};

void pack_levels(const std::vector<float>& levels, const WeightMatrix& to, std::int64_t row,
                 std::uint8_t* out) {
  const std::int64_t step = word_columns(to.format);
  for (std::int64_t column = 0; column < to.columns; column += step) {
    std::uint8_t* word = out + word_place(to, row, column);
    const float* from = levels.data() + column;
    for (std::int64_t i = 0; i < 4; ++i) {
      const int high = step == 8 ? static_cast<int>(from[i + 4]) << 4 : 0;
      word[i] = static_cast<std::uint8_t>(static_cast<int>(from[i]) | high);
    }
  }
}

void quantize_row(const WeightMatrix& source, std::int64_t index, const Quantized& to) {
  std::vector<float> row(static_cast<std::size_t>(source.columns));
  widen_row(source, index, row.data());
  if (!all_finite(row))
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("row {} of the matrix holds a value that is not finite, which has no quantised form",
                    index));
  const int levels = to.shape.format == WeightFormat::kInt8 ? 256 : 16;
  const std::int64_t size = to.shape.group_size, in_band = index % kBandRows;
  BandScales* scales = to.scales + index / kBandRows * (source.columns / size);
  for (std::int64_t column = 0; column < source.columns; column += size, ++scales) {
    const GroupScale scale = scale_of(row.data() + column, size, levels);
    round_to_levels(row.data() + column, size, scale, levels);
    scales->scale[in_band] = scale.scale;
    scales->minimum[in_band] = scale.minimum;
  }
  pack_levels(row, to.shape, index, to.levels);
}

}  // namespace

WeightMatrix quantized_shape(const WeightMatrix& source, int bits, std::int64_t group_size) {
  check(source, bits, group_size);
  return {.format = bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4,
          .rows = source.rows,
          .columns = source.columns,
          .group_size = group_size};
}

QuantizedMatrix::QuantizedMatrix(const WeightMatrix& source, int bits, std::int64_t group_size, int threads)
    : view_(quantized_shape(source, bits, group_size)) {
  data_.resize(static_cast<std::size_t>(matrix_bytes(view_)));
  scales_.resize(static_cast<std::size_t>(bands_of(source.rows) * (source.columns / group_size)));
  view_.data = data_.data();
  view_.scales = scales_.data();
  const Quantized to{view_, reinterpret_cast<std::uint8_t*>(data_.data()), scales_.data()};
  ThreadTeam(threads).run(source.rows, kBandRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) quantize_row(source, row, to);
  });
}

std::int64_t QuantizedMatrix::bytes() const {
  return static_cast<std::int64_t>(data_.size() + scales_.size() * sizeof(BandScales));
}

}  // namespace deepscale
