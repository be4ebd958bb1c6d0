// A weight [rows, size] that is an embedding and, transposed, the last layer of the same model. It then has
// two gradients, and by at::embedding and at::linear both are as large as itself, and their sum too.
//
// Here the scores' gradient is kept until the rest of the backward pass is done, and that of the rows,
// sparse, is added to it in place. The result has the bits of the sum of two dense ones. Both may be used
// without the other. Any thread; failures are LibTorch's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace deepscale {

// at::embedding(weight, indices, padding_row), whose gradient has the rows that `indices` names only: without
// tied_scores() in the same loss it is sparse. CPU.
at::Tensor tied_rows(const at::Tensor& weight, const at::Tensor& indices, std::int64_t padding_row);

// hidden * weight^T: [..., size] -> [..., rows].
at::Tensor tied_scores(const at::Tensor& hidden, const at::Tensor& weight);

}  // namespace deepscale
