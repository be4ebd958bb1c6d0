// Groupwise asymmetric quantisation of weights to 8 or 4 bits (weight_format.h has the layout).
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/inference/weight_format.h"

namespace deepscale {

// The memory of a quantised matrix, and a view of it.
class QuantizedMatrix {
 public:
  // Rounds each element to the nearest of 2^bits levels between its group's least and greatest element.
  // `bits` is 8 or 4. A group size that does not divide the columns, or is no multiple of 32, and elements
  // that are not finite are Error(kInvalidArgument). Reads `source`, which may be gone afterwards, with so
  // many threads, the caller included.
  QuantizedMatrix(const WeightMatrix& source, int bits, std::int64_t group_size, int threads = 1);

  const WeightMatrix& view() const { return view_; }
  std::int64_t bytes() const;

 private:
  std::vector<std::byte> data_;
  std::vector<BandScales> scales_;
  WeightMatrix view_;
};

}  // namespace deepscale
