#include "runtime/inference/linear_kernel.h"

#include "runtime/inference/linear_loops.h"

namespace deepscale {

namespace {

const LinearLoops& loops_of(LinearSet set) {
  const bool best = set == LinearSet::kBest;
  if (best || set == LinearSet::kAvx512)
    if (const LinearLoops* loops = avx512_linear_loops()) return *loops;
  if (best || set == LinearSet::kAvx2)
    if (const LinearLoops* loops = avx2_linear_loops()) return *loops;
  return portable_linear_loops();
}

}  // namespace

void multiply(const LinearProduct& product, LinearSet set) {
  loops_of(set).multiply(product);
}

void widen_row(const WeightMatrix& weights, std::int64_t row, float* output) {
  loops_of(LinearSet::kBest).widen_row(weights, row, output);
}

}  // namespace deepscale
