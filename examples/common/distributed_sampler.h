// Which samples a rank trains on, and in which order.
//
// Each epoch shuffles all samples, alike on every rank, and deals them out. Every rank gets the same number,
// so that all take the same number of steps; where the samples do not suffice for that, the first of the
// epoch come again. A pure value. Follows torch.utils.data.DistributedSampler.
#pragma once

#include <cstdint>
#include <vector>

namespace examples {

class DistributedSampler {
 public:
  // `count` samples in all, at least 1; rank in 0 .. world_size-1; the same seed on every rank.
  DistributedSampler(std::int64_t count, int rank, int world_size, std::uint64_t seed);

  // This rank's samples of that epoch.
  std::vector<std::int64_t> indices(int epoch) const;

 private:
  std::int64_t count_;
  int rank_;
  int world_size_;
  std::uint64_t seed_;
};

}  // namespace examples
