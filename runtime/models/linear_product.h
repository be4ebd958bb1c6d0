// The product of a linear layer, forward and backward, by the faster of LibTorch's two libraries.
//
// LibTorch computes fp32 products on the CPU with MKL, which uses AVX2 on processors that are not Intel's.
// oneDNN, which is in LibTorch too, uses AVX-512 wherever it is: twice as fast on an AMD EPYC. So fp32
// products on a CPU with AVX-512 that are large enough to be worth its call go there; all others are
// at::linear.
//
// Any thread. Failures are those of at::linear. Sums are in another order than at::linear's, so results
// differ by rounding. Second derivatives are as of at::linear.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepscale {

// input [..., inputs] times weight [outputs, inputs], which may be a transposed view, plus `bias` [outputs]
// where it is defined: [..., outputs].
at::Tensor linear_product(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias = {});

}  // namespace deepscale
