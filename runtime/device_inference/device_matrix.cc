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
  DeviceMatrix result{.format = format};
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
  const std::int64_t rows = elements.size(0);
  at::Tensor levels = elements;
  if (format == WeightFormat::kInt4) {
    const at::Tensor packed = elements.view({rows, -1, 1, 16});
    levels = at::cat({packed.bitwise_and(15), packed.bitwise_right_shift(4)}, 2);
  }
  const at::Tensor grouped = levels.reshape({rows, scales.size(1), -1}).to(at::kFloat);
  return grouped.mul_(scales.narrow(2, 0, 1)).add_(scales.narrow(2, 1, 1)).view({rows, -1}).to(dtype);
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
  DeviceMatrix view{.format = matrix.format};
  if (matrix.rows == 0) return view;
  auto* elements = const_cast<std::byte*>(matrix.data);  // from_blob has no other form; nobody writes there
  if (matrix.scales == nullptr) {
    view.elements = at::from_blob(elements, {matrix.rows, matrix.columns}, scalar_type(matrix.format));
    return view;
  }
  view.elements = at::from_blob(elements, {matrix.rows, row_bytes(matrix.format, matrix.columns)}, at::kByte);
  view.scales = at::from_blob(const_cast<GroupScale*>(matrix.scales),
                              {matrix.rows, matrix.columns / matrix.group_size, 2}, at::kFloat);
  return view;
}

DeviceMatrices views_of(const LayerMatrices& matrices) {
  DeviceMatrices views;
  std::transform(matrices.begin(), matrices.end(), views.begin(), view_of);
  return views;
}

}  // namespace deepscale
