#include "runtime/inference/linear_kernel.h"

#include <memory>

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

const QuantizedLoops& quantized_loops_of(LinearSet set) {
  if (set == LinearSet::kBest || set == LinearSet::kVnni)
    if (const QuantizedLoops* loops = vnni_quantized_loops()) return *loops;
  return loops_of(set).quantized;
}

int level_of(const WeightMatrix& weights, std::int64_t row, std::int64_t column) {
  const int level = std::to_integer<int>(weights.data[word_place(weights, row, column) + column % 4]);
  if (weights.format == WeightFormat::kInt8) return level;
  return column % 8 < 4 ? level & 15 : level >> 4;
}

void widen_quantized_row(const WeightMatrix& weights, std::int64_t row, float* output) {
  const BandScales* scales = weights.scales + row / kBandRows * (weights.columns / weights.group_size);
  const std::int64_t in_band = row % kBandRows;
  for (std::int64_t column = 0; column < weights.columns; ++column) {
    const BandScales& group = scales[column / weights.group_size];
    output[column] =
        group.scale[in_band] * static_cast<float>(level_of(weights, row, column)) + group.minimum[in_band];
  }
}

}  // namespace

void multiply(const LinearProduct& product, LinearSet set) {
  if (!is_quantized(product.weights.format)) return loops_of(set).multiply(product);
  const QuantizedLoops& loops = quantized_loops_of(set);
  const auto bytes = static_cast<std::size_t>(loops.packed_bytes(product));
  loops.multiply(product, std::make_unique_for_overwrite<std::byte[]>(bytes).get());
}

void widen_row(const WeightMatrix& weights, std::int64_t row, float* output) {
  if (is_quantized(weights.format)) return widen_quantized_row(weights, row, output);
  loops_of(LinearSet::kBest).widen_row(weights, row, output);
}

}  // namespace deepscale
