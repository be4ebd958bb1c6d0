// GatherSchedule: what is used is live, limits hold, and what was seen once is prefetched.
#include "runtime/zero/gather_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace deepscale {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

GatherSchedule::Decision use(GatherSchedule& schedule, int unit) {
  GatherSchedule::Decision decision = schedule.begin_use(unit);
  schedule.end_use(unit);
  return decision;
}

void use_forward_and_backward(GatherSchedule& schedule, int units) {
  for (int unit = 0; unit < units; ++unit) use(schedule, unit);
  for (int unit = units; unit-- > 0;) use(schedule, unit);
}

TEST(GatherSchedule, TheFirstPassGathersOneUnitAfterTheOther) {
  GatherSchedule schedule({10, 10, 10}, {});
  EXPECT_THAT(use(schedule, 0).gather, ElementsAre(0));
  EXPECT_THAT(use(schedule, 0).gather, IsEmpty());
  const auto next = use(schedule, 1);
  EXPECT_THAT(next.gather, ElementsAre(1));
  EXPECT_THAT(next.release, ElementsAre(0));
}

TEST(GatherSchedule, TheSecondPassIsPrefetched) {
  GatherSchedule schedule({10, 10, 10, 10}, {.max_reuse_distance = 10, .prefetch_numel = 10});
  use_forward_and_backward(schedule, 4);
  use(schedule, 0);  // what follows here was not seen yet
  EXPECT_THAT(use(schedule, 1).gather, ElementsAre(1, 2));
  EXPECT_THAT(use(schedule, 2).gather, ElementsAre(3)) << "after 1 and 2 came 3";
  EXPECT_THAT(use(schedule, 3).gather, IsEmpty());
  EXPECT_THAT(use(schedule, 2).gather, ElementsAre(1)) << "after 3 and 2 came 1: it is backward";
  EXPECT_THAT(use(schedule, 1).gather, ElementsAre(0));
}

TEST(GatherSchedule, WhatIsUsedSoonAgainStays) {
  GatherSchedule near({10, 10, 10}, {.max_reuse_distance = 40, .prefetch_numel = 0});
  use_forward_and_backward(near, 3);
  use_forward_and_backward(near, 3);
  use(near, 0);
  use(near, 1);
  EXPECT_THAT(use(near, 2).release, IsEmpty()) << "1 and 0 come next";
  GatherSchedule far({10, 10, 10}, {.max_reuse_distance = 10, .prefetch_numel = 0});
  use_forward_and_backward(far, 3);
  use_forward_and_backward(far, 3);
  use(far, 0);
  use(far, 1);
  EXPECT_FALSE(far.is_live(0));
}

TEST(GatherSchedule, TheFurthestUseGoesFirstWhenThereIsNoRoom) {
  GatherSchedule schedule({10, 10, 10}, {.max_live_numel = 20, .prefetch_numel = 0});
  use_forward_and_backward(schedule, 3);
  use_forward_and_backward(schedule, 3);
  use(schedule, 0);
  use(schedule, 1);
  EXPECT_THAT(use(schedule, 2).release, ElementsAre(0)) << "1 is needed before 0";
}

// Else a model that is larger than the limit would be gathered without any prefetch: all of it is used again.
TEST(GatherSchedule, WhatIsUsedLaterMakesRoomForWhatIsUsedNext) {
  constexpr int kUnits = 6;
  GatherSchedule schedule(std::vector<std::int64_t>(kUnits, 10),
                          {.max_live_numel = 30, .prefetch_numel = 10});
  for (int pass = 0; pass < 2; ++pass) use_forward_and_backward(schedule, kUnits);
  for (int unit = 0; unit < kUnits; ++unit) {
    EXPECT_TRUE(schedule.is_live(unit)) << unit << " in forward";
    use(schedule, unit);
  }
  for (int unit = kUnits; unit-- > 0;) {
    EXPECT_TRUE(schedule.is_live(unit)) << unit << " in backward";
    use(schedule, unit);
  }
}

TEST(GatherSchedule, WhatIsHeldIsNeverReleased) {
  GatherSchedule schedule({10, 10}, {.max_live_numel = 10});
  schedule.begin_use(0);
  const auto decision = use(schedule, 1);
  EXPECT_THAT(decision.release, IsEmpty());
  EXPECT_THAT(decision.gather, ElementsAre(1));
  EXPECT_THAT(schedule.live_unheld(), ElementsAre(1));
  schedule.end_use(0);
  EXPECT_THAT(schedule.live_unheld(), ElementsAre(0, 1));
}

// Whatever the program does: its unit is live while it is held, what the decisions say adds up, and the limit
// holds but for what is held.
TEST(GatherSchedule, HoldsItsInvariantsOverRandomPrograms) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const int units = 1 + static_cast<int>(random() % 9);
    std::vector<std::int64_t> numels;
    for (int i = 0; i < units; ++i) numels.push_back(static_cast<std::int64_t>(random() % 20));
    const std::int64_t largest = *std::max_element(numels.begin(), numels.end());
    const GatherLimits limits{.max_live_numel = largest + static_cast<std::int64_t>(random() % 60),
                              .max_reuse_distance = static_cast<std::int64_t>(random() % 80),
                              .prefetch_numel = static_cast<std::int64_t>(random() % 60)};
    GatherSchedule schedule(numels, limits);
    std::vector<bool> live(numels.size(), false);
    const auto apply = [&](const std::vector<int>& changed, bool to) {
      for (const int unit : changed) {
        ASSERT_NE(live[static_cast<std::size_t>(unit)], to) << "seed " << seed;
        live[static_cast<std::size_t>(unit)] = to;
      }
    };
    for (int step = 0; step < 300; ++step) {
      const int unit = step % 3 == 0 ? static_cast<int>(random()) % units : step % units;
      const int used = unit < 0 ? -unit : unit;
      const auto decision = schedule.begin_use(used);
      apply(decision.release, false);
      apply(decision.gather, true);
      ASSERT_TRUE(live[static_cast<std::size_t>(used)] && schedule.is_live(used)) << "seed " << seed;
      ASSERT_LE(schedule.live_numel(), limits.max_live_numel) << "seed " << seed;
      schedule.end_use(used);
      for (const int unheld : schedule.live_unheld()) ASSERT_TRUE(live[static_cast<std::size_t>(unheld)]);
    }
  }
}

}  // namespace
}  // namespace deepscale
