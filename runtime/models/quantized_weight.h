// A frozen matrix of 8 or 4 bits an element, which adapters are trained beside.
//
// Each row is cut into groups of columns; an element is the nearest of 2^bits levels between the least and
// the greatest of its group. Products widen the matrix again, in the backward pass too, so that no graph
// holds it whole.
//
// One thread. Follows "QLoRA" (Dettmers et al., 2023), with levels that are evenly spaced.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace deepscale {

struct QuantizeOptions {
  int bits = 8;  // or 4
  std::int64_t group_size = 64;
};

class QuantizedWeight {
 public:
  // Of [rows, columns] in any floating-point type. Error(kInvalidArgument) for other bits, for a group that
  // does not divide the columns, and for 4 bits one that is odd.
  QuantizedWeight(const at::Tensor& weight, const QuantizeOptions& options);

  // The rounded elements, [rows, columns].
  at::Tensor values(at::ScalarType dtype) const;

  // at::linear(input, values) or, for a matrix that stands the other way, at::linear(input, values^T): its
  // gradient reaches the input. The levels move to the input's device once.
  at::Tensor product(const at::Tensor& input, bool is_transposed);

  std::int64_t bytes() const;

 private:
  bool is_packed_;     // 4 bits: two neighbours in a byte
  at::Tensor levels_;  // uint8 [rows, groups, elements or pairs]
  at::Tensor grid_;    // fp32 [rows, groups, 2]: the least element, and the distance of two levels
};

}  // namespace deepscale
