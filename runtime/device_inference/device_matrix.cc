#include "runtime/device_inference/device_matrix.h"

#include <torch/torch.h>

#include <algorithm>

#include "comm/base/error.h"

namespace deepscale {

std::int64_t DeviceMatrix::bytes() const {
  std::int64_t bytes = 0;
  for (const at::Tensor* part : {&elements, &scales})
    if (part->defined()) bytes += static_cast<std::int64_t>(part->nbytes());
  return bytes;
}

DeviceMatrix DeviceMatrix::empty_like(c10::Device device, bool is_pinned) const {
  DeviceMatrix result{.format = format, .rows = rows};
  const auto make = [&](const at::Tensor& like) {
    return like.defined() ? at::empty(like.sizes(), like.options().device(device).pinned_memory(is_pinned))
                          : at::Tensor();
  };
  result.elements = make(elements);
  result.scales = make(scales);
  return result;
}

void DeviceMatrix::copy_from(const DeviceMatrix& source) {
  if (elements.defined()) elements.copy_(source.elements, /*non_blocking=*/true);
  if (scales.defined()) scales.copy_(source.scales, /*non_blocking=*/true);
}

// Layouts as of weight_format.h.
at::Tensor DeviceMatrix::dense(at::ScalarType dtype) const {
  if (!scales.defined()) return elements.to(dtype);
  at::Tensor levels = elements;
  if (format == WeightFormat::kInt4)
    levels = at::cat({levels.bitwise_and(15), levels.bitwise_right_shift(4)}, 3);
  const std::int64_t groups = scales.size(1), filled_rows = scales.size(0) * kBandRows;
  const at::Tensor grouped = levels.permute({0, 2, 1, 3}).reshape({filled_rows, groups, -1}).to(at::kFloat);
  const auto of_rows = [&](std::int64_t which) {
    return scales.select(2, which).transpose(1, 2).reshape({filled_rows, groups, 1});
  };
  return grouped.mul_(of_rows(0)).add_(of_rows(1)).view({filled_rows, -1}).narrow(0, 0, rows).to(dtype);
}

at::ScalarType scalar_type(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFloat32:
      return at::kFloat;
    case WeightFormat::kBFloat16:
      return at::kBFloat16;
    case WeightFormat::kFloat16:
      return at::kHalf;
    case WeightFormat::kInt8:
    case WeightFormat::kInt4:
      break;
  }
  throw Error(ErrorCode::kInvalidArgument, "a quantised matrix has no scalar type");
}

DeviceMatrix view_of(const WeightMatrix& matrix) {
  DeviceMatrix view{.format = matrix.format, .rows = matrix.rows};
  if (matrix.rows == 0) return view;
  auto* elements = const_cast<std::byte*>(matrix.data);  // from_blob has no other form; nobody writes there
  if (matrix.scales == nullptr) {
    view.elements = at::from_blob(elements, {matrix.rows, matrix.columns}, scalar_type(matrix.format));
    return view;
  }
  const std::int64_t bands = bands_of(matrix.rows);
  const std::int64_t words = matrix.columns / word_columns(matrix.format);
  view.elements = at::from_blob(elements, {bands, words, kBandRows, 4}, at::kByte);
  view.scales = at::from_blob(const_cast<BandScales*>(matrix.scales),
                              {bands, matrix.columns / matrix.group_size, 2, kBandRows}, at::kFloat);
  return view;
}

DeviceMatrices views_of(const LayerMatrices& matrices) {
  DeviceMatrices views;
  std::transform(matrices.begin(), matrices.end(), views.begin(), view_of);
  return views;
}

}  // namespace deepscale
