// The log-probability of one class in each row of scores, the heart of a cross entropy.
//
// On the CPU it works by blocks of rows, forward and backward: beside the scores and their gradient there is
// no other tensor of their size, where LibTorch's cross entropy of 16-bit scores has several in fp32. The
// numbers are the same bits. The price is that backward computes the softmax again.
//
// Any thread. Failures are LibTorch's: a class out of range.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepscale {

// `scores` [rows, classes] of any floating-point type, `classes` int64 [rows]: fp32 [rows].
at::Tensor log_probabilities(const at::Tensor& scores, const at::Tensor& classes);

// Minus their mean, fp32 []; not a number where there are no rows.
at::Tensor mean_cross_entropy(const at::Tensor& scores, const at::Tensor& classes);

}  // namespace deepscale
