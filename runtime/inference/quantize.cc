#include "runtime/inference/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "comm/base/error.h"
#include "runtime/inference/linear_kernel.h"

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

GroupScale scale_of(const float* group, std::int64_t count, int levels) {
  const auto [least, greatest] = std::minmax_element(group, group + count);
  return {(*greatest - *least) / static_cast<float>(levels - 1), *least};
}

std::uint8_t level_of(float value, const GroupScale& group, int levels) {
  if (group.scale == 0) return 0;
  const float level = std::nearbyint((value - group.minimum) / group.scale);
  return static_cast<std::uint8_t>(std::clamp(level, 0.0f, static_cast<float>(levels - 1)));
}

}  // namespace

QuantizedMatrix::QuantizedMatrix(const WeightMatrix& source, int bits, std::int64_t group_size) {
  check(source, bits, group_size);
  const int levels = 1 << bits;
  const WeightFormat format = bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4;
  const std::int64_t bytes = row_bytes(format, source.columns), groups = source.columns / group_size;
  data_.resize(static_cast<std::size_t>(source.rows * bytes));
  scales_.resize(static_cast<std::size_t>(source.rows * groups));
  std::vector<float> row(static_cast<std::size_t>(source.columns));
  for (std::int64_t r = 0; r < source.rows; ++r) {
    deepscale::widen_row(source, r, row.data());
    if (!std::all_of(row.begin(), row.end(), [](float value) { return std::isfinite(value); }))
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("row {} of the matrix holds a value that is not finite, which has no quantised form",
                      r));
    GroupScale* scales = scales_.data() + r * groups;
    auto* out = reinterpret_cast<std::uint8_t*>(data_.data()) + r * bytes;
    for (std::int64_t group = 0; group < groups; ++group)
      scales[group] = scale_of(row.data() + group * group_size, group_size, levels);
    for (std::int64_t column = 0; column < source.columns; ++column) {
      const std::uint8_t level = level_of(row[column], scales[column / group_size], levels);
      if (bits == 8)
        out[column] = level;
      else
        out[column / 32 * 16 + column % 16] |=
            static_cast<std::uint8_t>(column % 32 < 16 ? level : level << 4);
    }
  }
  view_ = {format, source.rows, source.columns, data_.data(), scales_.data(), group_size};
}

std::int64_t QuantizedMatrix::bytes() const {
  return static_cast<std::int64_t>(data_.size() + scales_.size() * sizeof(GroupScale));
}

}  // namespace deepscale
