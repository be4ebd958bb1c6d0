#include "examples/common/distributed_sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace examples {
namespace {

std::vector<std::int64_t> indices_of_all_ranks(std::int64_t count, int world_size, int epoch) {
  std::vector<std::int64_t> all;
  for (int rank = 0; rank < world_size; ++rank) {
    const auto share = DistributedSampler(count, rank, world_size, 5).indices(epoch);
    all.insert(all.end(), share.begin(), share.end());
  }
  return all;
}

TEST(DistributedSampler, GivesEveryRankTheSameNumberAndTogetherEveryImage) {
  for (const std::int64_t count : {1, 2, 7, 12, 1437}) {
    for (const int world_size : {1, 2, 3, 4, 8}) {
      const auto all = indices_of_all_ranks(count, world_size, 0);
      const auto share_size = static_cast<std::size_t>((count + world_size - 1) / world_size);
      ASSERT_EQ(all.size(), share_size * static_cast<std::size_t>(world_size));
      for (int rank = 0; rank < world_size; ++rank) {
        ASSERT_EQ(DistributedSampler(count, rank, world_size, 5).indices(0).size(), share_size);
      }
      const std::set<std::int64_t> distinct(all.begin(), all.end());
      ASSERT_EQ(distinct.size(), static_cast<std::size_t>(count));
      ASSERT_EQ(*distinct.begin(), 0);
      ASSERT_EQ(*distinct.rbegin(), count - 1);
    }
  }
}

// One rank sees the whole epoch in the order that several ranks share.
TEST(DistributedSampler, DealsTheSameOrderToAnyWorldSize) {
  const auto whole = DistributedSampler(12, 0, 1, 9).indices(4);
  const auto first = DistributedSampler(12, 0, 2, 9).indices(4);
  const auto second = DistributedSampler(12, 1, 2, 9).indices(4);
  for (std::size_t turn = 0; turn < 6; ++turn) {
    EXPECT_EQ(first[turn], whole[2 * turn]);
    EXPECT_EQ(second[turn], whole[2 * turn + 1]);
  }
}

TEST(DistributedSampler, ShufflesByEpochAndSeed) {
  const DistributedSampler sampler(100, 0, 1, 9);
  std::vector<std::int64_t> in_order(100);
  std::iota(in_order.begin(), in_order.end(), 0);
  EXPECT_NE(sampler.indices(0), in_order);
  EXPECT_NE(sampler.indices(0), sampler.indices(1));
  EXPECT_NE(sampler.indices(0), DistributedSampler(100, 0, 1, 10).indices(0));
  EXPECT_EQ(sampler.indices(1), sampler.indices(1));
}

}  // namespace
}  // namespace examples
