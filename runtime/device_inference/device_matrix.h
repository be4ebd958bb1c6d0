// A matrix of a decoder's layer as tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "runtime/inference/layer_weights.h"

namespace deepscale {

struct DeviceMatrix {
  WeightFormat format = WeightFormat::kFloat32;
  std::int64_t rows = 0;
  // [rows, columns]; quantised: bytes, [bands, words of a row, rows of a band, 4]. Undefined: no matrix.
  at::Tensor elements;
  at::Tensor
      scales;  // fp32 [bands, groups, 2, rows of a band], scale and minimum; undefined unless quantised

  std::int64_t bytes() const;
  // Of the same shape, with memory of its own.
  DeviceMatrix empty_like(c10::Device device, bool is_pinned = false) const;
  // May go on after the call where this or `source` is on another device than the CPU.
  void copy_from(const DeviceMatrix& source);
  // [rows, columns]. Not a copy where it has that dtype already.
  at::Tensor dense(at::ScalarType dtype) const;
};

using DeviceMatrices = std::array<DeviceMatrix, kLayerMatrices>;

// The same memory, which must outlive it, on the CPU.
DeviceMatrix view_of(const WeightMatrix& matrix);
DeviceMatrices views_of(const LayerMatrices& matrices);

// Of weights that are stored so; of no quantised ones.
at::ScalarType scalar_type(WeightFormat format);

}  // namespace deepscale
