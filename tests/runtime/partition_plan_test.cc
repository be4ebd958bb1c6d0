// PartitionPlan: its invariants over random parameters, world sizes, bucket sizes and alignments.
#include "runtime/zero/partition_plan.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>

#include "comm/base/error.h"

namespace deepscale {
namespace {

// Element by element: (parameter, index) -> (rank, shard offset) hits every slot at most once, and misses
// just the padding.
void expect_bijection(const PartitionPlan& plan) {
  std::vector<bool> taken(static_cast<std::size_t>(plan.arena_numel()), false);
  std::int64_t elements = 0;
  for (std::size_t p = 0; p < plan.parameters().size(); ++p) {
    for (std::int64_t i = 0; i < plan.parameters()[p].numel; ++i, ++elements) {
      const PartitionPlan::Location location = plan.locate(static_cast<int>(p), i);
      ASSERT_GE(location.rank, 0);
      ASSERT_LT(location.rank, plan.world_size());
      ASSERT_GE(location.offset, 0);
      ASSERT_LT(location.offset, plan.shard_numel());
      const auto slot = static_cast<std::size_t>(location.rank * plan.shard_numel() + location.offset);
      ASSERT_FALSE(taken[slot]) << "parameter " << p << " element " << i;
      taken[slot] = true;
    }
  }
  std::int64_t padding = 0;
  for (const auto& bucket : plan.buckets()) padding += bucket.padding;
  EXPECT_EQ(elements + padding, plan.arena_numel());
}

// The buckets tile the arena, the parameters tile each bucket, and each rank's slices tile its shard.
void expect_tiling(const PartitionPlan& plan, const PartitionOptions& options) {
  const std::int64_t unit = options.world_size * options.alignment;
  std::int64_t offset = 0;
  std::int64_t shard_offset = 0;
  int parameter = 0;
  for (std::size_t b = 0; b < plan.buckets().size(); ++b) {
    const auto& bucket = plan.buckets()[b];
    const int index = static_cast<int>(b);
    EXPECT_EQ(bucket.offset, offset);
    EXPECT_EQ(bucket.shard_offset, shard_offset);
    EXPECT_EQ(bucket.numel % unit, 0);
    EXPECT_LT(bucket.padding, unit);
    EXPECT_EQ(bucket.first_parameter, parameter);
    EXPECT_GE(bucket.parameter_count, 1);
    std::int64_t filled = 0;
    int parameters_with_elements = 0;
    for (int i = 0; i < bucket.parameter_count; ++i, ++parameter) {
      const auto& entry = plan.parameters()[static_cast<std::size_t>(parameter)];
      EXPECT_EQ(entry.bucket, index);
      EXPECT_EQ(entry.offset, offset + filled);
      filled += entry.numel;
      if (entry.numel > 0) ++parameters_with_elements;
    }
    EXPECT_EQ(filled + bucket.padding, bucket.numel);
    EXPECT_TRUE(filled <= options.bucket_numel || parameters_with_elements == 1);
    EXPECT_EQ(plan.slice_numel(index) * options.world_size, bucket.numel);
    EXPECT_EQ(plan.slice_offset(index, 0), offset);
    EXPECT_EQ(plan.slice_offset(index, options.world_size - 1) + plan.slice_numel(index),
              offset + bucket.numel);
    offset += bucket.numel;
    shard_offset += plan.slice_numel(index);
  }
  EXPECT_EQ(parameter, static_cast<int>(plan.parameters().size()));
  EXPECT_EQ(plan.arena_numel(), offset);
  EXPECT_EQ(plan.shard_numel(), shard_offset);
}

TEST(PartitionPlan, IsABijectionForRandomModels) {
  std::mt19937 random(20240611);
  const std::vector<std::int64_t> alignments = {1, 2, 7, 16, 64};
  const std::vector<std::int64_t> bucket_sizes = {1, 10, 100, 1000, 500'000'000};
  for (int world_size = 1; world_size <= 17; ++world_size) {
    for (int round = 0; round < 100; ++round) {
      std::vector<std::int64_t> numels(random() % 12);
      for (auto& numel : numels) {
        const std::vector<std::int64_t> choices = {0, 1, 2, 3, 16, static_cast<std::int64_t>(random() % 300)};
        numel = choices[random() % choices.size()];
      }
      const PartitionOptions options{.world_size = world_size,
                                     .bucket_numel = bucket_sizes[random() % bucket_sizes.size()],
                                     .alignment = alignments[random() % alignments.size()]};
      SCOPED_TRACE(::testing::Message() << "world " << world_size << " round " << round);
      const PartitionPlan plan(numels, options);
      ASSERT_EQ(plan.parameters().size(), numels.size());
      for (std::size_t i = 0; i < numels.size(); ++i) EXPECT_EQ(plan.parameters()[i].numel, numels[i]);
      expect_tiling(plan, options);
      expect_bijection(plan);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// Too large to walk: the boundaries of every slice are checked instead of every element.
TEST(PartitionPlan, LocatesTheEdgesOfHugeParameters) {
  const std::int64_t huge = 1'000'000'000'003;
  for (int world_size = 1; world_size <= 17; ++world_size) {
    const PartitionPlan plan({5, huge, 0, 7}, {.world_size = world_size});
    for (int parameter : {0, 1, 3}) {
      const auto& entry = plan.parameters()[static_cast<std::size_t>(parameter)];
      const auto& bucket = plan.buckets()[static_cast<std::size_t>(entry.bucket)];
      std::set<std::int64_t> indices = {0, entry.numel - 1};
      for (int rank = 0; rank < world_size; ++rank) {
        const std::int64_t first = plan.slice_offset(entry.bucket, rank) - entry.offset;
        for (const std::int64_t index : {first - 1, first}) {
          if (index >= 0 && index < entry.numel) indices.insert(index);
        }
      }
      for (const std::int64_t index : indices) {
        const auto location = plan.locate(parameter, index);
        const std::int64_t in_slice = location.offset - bucket.shard_offset;
        EXPECT_GE(in_slice, 0);
        EXPECT_LT(in_slice, plan.slice_numel(entry.bucket));
        EXPECT_EQ(plan.slice_offset(entry.bucket, location.rank) + in_slice, entry.offset + index);
      }
    }
  }
}

TEST(PartitionPlan, KeepsALargeParameterInABucketOfItsOwn) {
  const PartitionPlan plan({10, 1000, 10, 10, 0}, {.world_size = 2, .bucket_numel = 100, .alignment = 1});
  ASSERT_EQ(plan.buckets().size(), 3u);
  EXPECT_EQ(plan.buckets()[1].parameter_count, 1);
  EXPECT_EQ(plan.buckets()[1].numel, 1000);
  EXPECT_EQ(plan.buckets()[2].parameter_count, 3);
}

TEST(PartitionPlan, OfNothingIsEmpty) {
  EXPECT_EQ(PartitionPlan({}, {.world_size = 4}).arena_numel(), 0);
  EXPECT_EQ(PartitionPlan({}, {.world_size = 4}).shard_numel(), 0);
  EXPECT_EQ(PartitionPlan().shard_numel(), 0);
  const PartitionPlan empty_parameters({0, 0, 0}, {.world_size = 3});
  EXPECT_EQ(empty_parameters.arena_numel(), 0);
  EXPECT_EQ(empty_parameters.buckets().size(), 1u);
}

TEST(PartitionPlan, RefusesImpossibleArguments) {
  const auto expect_refused = [](const std::vector<std::int64_t>& numels, const PartitionOptions& options) {
    try {
      PartitionPlan plan(numels, options);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
  };
  expect_refused({1}, {.world_size = 0});
  expect_refused({1}, {.bucket_numel = 0});
  expect_refused({1}, {.alignment = 0});
  expect_refused({1, -1}, {});
  expect_refused({INT64_MAX}, {});
  expect_refused({INT64_MAX / 5, INT64_MAX / 5}, {});
  expect_refused({1}, {.world_size = 1'000'000, .alignment = INT64_MAX / 2});
  const PartitionPlan plan({3}, {.world_size = 2});
  for (const auto& [parameter, index] :
       std::vector<std::pair<int, std::int64_t>>{{0, 3}, {0, -1}, {1, 0}, {-1, 0}}) {
    EXPECT_THROW(plan.locate(parameter, index), Error);
  }
}

}  // namespace
}  // namespace deepscale
