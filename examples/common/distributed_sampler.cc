#include "examples/common/distributed_sampler.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace examples {

DistributedSampler::DistributedSampler(std::int64_t count, int rank, int world_size, std::uint64_t seed)
    : count_(count), rank_(rank), world_size_(world_size), seed_(seed) {}

std::vector<std::int64_t> DistributedSampler::indices(int epoch) const {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count_));
  std::iota(order.begin(), order.end(), 0);
  std::seed_seq mixed{seed_ & 0xffffffff, seed_ >> 32, static_cast<std::uint64_t>(epoch)};
  std::mt19937_64 random(mixed);
  std::shuffle(order.begin(), order.end(), random);

  std::vector<std::int64_t> share;
  const std::int64_t share_size = (count_ + world_size_ - 1) / world_size_;
  for (std::int64_t turn = 0; turn < share_size; ++turn) {
    share.push_back(order[static_cast<std::size_t>((turn * world_size_ + rank_) % count_)]);
  }
  return share;
}

}  // namespace examples
