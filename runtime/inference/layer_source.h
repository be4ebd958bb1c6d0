// Gives a decoder the matrices of one layer after another, and says what getting them cost.
//
// The decoder asks for the layers in order, 0 to the last, step after step; a source that has to bring them
// may so fetch ahead. One thread. What acquire() returns is valid until the next acquire().
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "runtime/inference/layer_weights.h"

namespace deepscale {

class LayerSource {
 public:
  virtual ~LayerSource() = default;
  // Blocks until the layer's matrices are there. What went wrong on the way is thrown here.
  virtual const LayerMatrices& acquire(std::int64_t layer) = 0;
  virtual std::int64_t resident_bytes() const = 0;  // memory that the source holds for matrices
  // Of the layer last acquired: the bytes that were brought and when, which may have been while others
  // computed.
  struct Transfer {
    std::int64_t bytes = 0;
    std::chrono::nanoseconds start{0};  // as steady_clock has it
    std::chrono::nanoseconds time{0};
  };
  virtual Transfer last_transfer() const { return {}; }
};

// The files' own pages, which all processes of the machine share; read from the disk when first touched.
std::unique_ptr<LayerSource> make_mapped_source(std::shared_ptr<const ModelWeights> weights);

// Quantised to 8 or 4 bits in groups of `group_size` columns at construction, by so many threads; errors as
// of QuantizedMatrix.
std::unique_ptr<LayerSource> make_quantized_source(const ModelWeights& weights, int bits,
                                                   std::int64_t group_size, int threads = 1);

}  // namespace deepscale
