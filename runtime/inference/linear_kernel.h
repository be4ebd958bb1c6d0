// The matrix product of inference on the CPU: few rows of activations times a matrix of weights as it is
// stored.
//
// A decode step reads every weight once, so its time is that of the memory; weights are widened, or
// dequantised, in registers on their way to the product, and no copy in another format is ever made.
// Activations and sums are fp32. Compiled for AVX-512, AVX2 and the portable processor, and chosen at run
// time; the sets differ in the order of sums, so in rounding.
//
// Quantised weights are multiplied by AVX-512's integer dot products (VNNI) where the processor has them: an
// activation is then a whole number of 16 bits with its sign, relative to the largest of its row in up to 256
// columns of a group.
#pragma once

#include <cstdint>

#include "runtime/inference/weight_format.h"

namespace deepscale {

// output[m * output_stride + n] = sum over k of input[m * weights.columns + k] * weights[n, k], for the rows
// n in [row_begin, row_end) of the weights and m in [0, count). Quantised, row_begin is the first row of a
// band, and row_end the end of one or the last row's.
struct LinearProduct {
  const float* input = nullptr;  // [count, weights.columns], contiguous
  std::int64_t count = 0;
  WeightMatrix weights;
  float* output = nullptr;
  std::int64_t output_stride = 0;
  std::int64_t row_begin = 0;
  std::int64_t row_end = 0;
};

// Instruction sets with loops of their own; kBest is the best that this processor has. One that it lacks is
// replaced by kPortable.
enum class LinearSet : std::uint8_t { kPortable, kAvx2, kAvx512, kVnni, kBest };

// Single-threaded; several threads may work on disjoint rows of one product. No checks: shapes are the
// caller's.
void multiply(const LinearProduct& product, LinearSet set = LinearSet::kBest);

// One row of weights as fp32: an embedding. `output` has weights.columns elements.
void widen_row(const WeightMatrix& weights, std::int64_t row, float* output);

}  // namespace deepscale
