// BucketTracker: whatever the order in which gradients arrive, every bucket is released exactly once, in
// index order.
#include "runtime/zero/bucket_tracker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "comm/base/error.h"

namespace deepscale {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Five parameters of ten elements in buckets of twenty: {0, 1}, {2, 3}, {4}.
PartitionPlan three_buckets() {
  return PartitionPlan({10, 10, 10, 10, 10}, {.bucket_numel = 20, .alignment = 1});
}

TEST(BucketTracker, HoldsALaterBucketBackUntilTheEarlierOnesAreComplete) {
  BucketTracker tracker(three_buckets());
  EXPECT_THAT(tracker.mark_ready(4), IsEmpty());
  EXPECT_THAT(tracker.mark_ready(3), IsEmpty());
  EXPECT_THAT(tracker.mark_ready(0), IsEmpty());
  EXPECT_THAT(tracker.mark_ready(1), ElementsAre(0));
  EXPECT_THAT(tracker.mark_ready(2), ElementsAre(1, 2));
  EXPECT_THAT(tracker.flush(), IsEmpty());
}

TEST(BucketTracker, FlushReleasesTheRestAndMissingNamesTheParameters) {
  BucketTracker tracker(three_buckets());
  tracker.mark_ready(0);
  tracker.mark_ready(1);
  tracker.mark_ready(3);
  EXPECT_THAT(tracker.missing(), ElementsAre(2, 4));
  EXPECT_THAT(tracker.flush(), ElementsAre(1, 2));
  EXPECT_THAT(tracker.missing(), ElementsAre(2, 4));
  EXPECT_THAT(tracker.flush(), IsEmpty());
}

TEST(BucketTracker, RefusesAParameterTwiceOrTooLate) {
  BucketTracker tracker(three_buckets());
  tracker.mark_ready(0);
  const auto expect_internal_error = [&](int parameter) {
    try {
      tracker.mark_ready(parameter);
      ADD_FAILURE() << "accepted parameter " << parameter;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInternal) << error.what();
    }
  };
  expect_internal_error(0);
  expect_internal_error(5);
  expect_internal_error(-1);
  tracker.flush();
  expect_internal_error(1);
  tracker.begin();
  EXPECT_THAT(tracker.mark_ready(0), IsEmpty());
}

TEST(BucketTracker, ReleasesEachBucketOnceAndInOrderForRandomArrivals) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::int64_t> numels(1 + random() % 40);
    for (auto& numel : numels) numel = static_cast<std::int64_t>(random() % 50);
    const PartitionPlan plan(numels, {.world_size = 1 + static_cast<int>(random() % 8), .bucket_numel = 64});
    BucketTracker tracker(plan);

    for (int pass = 0; pass < 3; ++pass) {
      std::vector<int> arrivals(numels.size());
      std::iota(arrivals.begin(), arrivals.end(), 0);
      std::shuffle(arrivals.begin(), arrivals.end(), random);
      std::vector<int> absent(arrivals.begin(),
                              arrivals.begin() + static_cast<std::ptrdiff_t>(random() % arrivals.size()));
      arrivals.erase(arrivals.begin(), arrivals.begin() + static_cast<std::ptrdiff_t>(absent.size()));
      std::sort(absent.begin(), absent.end());

      tracker.begin();
      std::vector<int> released;
      std::vector<bool> arrived(numels.size(), false);
      for (const int parameter : arrivals) {
        arrived[static_cast<std::size_t>(parameter)] = true;
        for (const int bucket : tracker.mark_ready(parameter)) {
          const auto& entry = plan.buckets()[static_cast<std::size_t>(bucket)];
          for (int i = 0; i < entry.parameter_count; ++i) {
            ASSERT_TRUE(arrived[static_cast<std::size_t>(entry.first_parameter + i)]) << "bucket " << bucket;
          }
          released.push_back(bucket);
        }
      }
      ASSERT_EQ(tracker.missing(), absent);
      if (absent.empty()) {
        ASSERT_EQ(released.size(), plan.buckets().size());
      }
      for (const int bucket : tracker.flush()) released.push_back(bucket);
      std::vector<int> expected(plan.buckets().size());
      std::iota(expected.begin(), expected.end(), 0);
      ASSERT_EQ(released, expected);
    }
  }
}

}  // namespace
}  // namespace deepscale
