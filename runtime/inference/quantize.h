// Groupwise asymmetric quantisation of weights to 8 or 4 bits (weight_format.h has the layout).
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/inference/weight_format.h"

namespace deepscale {

// What `source` becomes, without pointers. `bits` is 8 or 4. Error(kInvalidArgument) for a group size that
// does not divide the columns, or is no multiple of 32.
WeightMatrix quantized_shape(const WeightMatrix& source, int bits, std::int64_t group_size);

// The memory of a quantised matrix, and a view of it.
class QuantizedMatrix {
 public:
  // Rounds each element to the nearest of 2^bits levels between its group's least and greatest element.
  // Errors as above, and for elements that are not finite. Reads `source`, which may be gone afterwards, with
  // so many threads, the caller included.
  QuantizedMatrix(const WeightMatrix& source, int bits, std::int64_t group_size, int threads = 1);

  const WeightMatrix& view() const { return view_; }
  std::int64_t bytes() const;

 private:
  std::vector<std::byte> data_;
  std::vector<BandScales> scales_;
  WeightMatrix view_;
};

}  // namespace deepscale
