// Who is blamed when the ranks of a node make no progress.
#include "agents/node/hang_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepscale {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

const Clock::time_point kStart = Clock::now();

RankProgress rank_at(std::int64_t steps, Clock::duration progress, Clock::duration heard) {
  return {.is_watched = true, .steps = steps, .progress_at = kStart + progress, .heard_at = kStart + heard};
}

TEST(HangWatch, NobodyIsWatchedBeforeItsFirstHeartbeat) {
  EXPECT_FALSE(find_hang({RankProgress{}, RankProgress{}}, kStart + 100h, 1s));
  EXPECT_FALSE(next_look({RankProgress{}}, 1s));
}

TEST(HangWatch, NothingHangsBeforeTheLimit) {
  const std::vector<RankProgress> ranks = {rank_at(5, 2s, 2s), rank_at(4, 1s, 2s)};
  EXPECT_EQ(next_look(ranks, 10s), kStart + 11s);
  EXPECT_FALSE(find_hang(ranks, kStart + 11s - 1ms, 10s));
  const auto hang = find_hang(ranks, kStart + 11s, 10s);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->index, 1U);
}

TEST(HangWatch, BlamesWhoIsFurthestBehind) {
  const auto hang =
      find_hang({rank_at(10, 1s, 60s), rank_at(9, 2s, 60s), rank_at(10, 1s, 60s)}, kStart + 61s, 60s);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->index, 1U);
  EXPECT_THAT(hang->text(), HasSubstr("made no step for 59.0 s: it has done 9, others up to 10"));
}

TEST(HangWatch, OfEqualsWhoStandsStillForLongest) {
  const auto hang = find_hang({rank_at(10, 3s, 60s), rank_at(10, 2s, 60s)}, kStart + 63s, 60s);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->index, 1U);
  EXPECT_THAT(hang->text(), HasSubstr("it has done 10, as all the others have"));
}

// A process that stands still as a whole is the cause, though another may have stopped a step earlier.
TEST(HangWatch, BlamesAProcessThatStandsStillBeforeOthers) {
  std::vector<RankProgress> ranks = {rank_at(9, 1s, 60s), rank_at(10, 2s, 2s), rank_at(10, 1s, 60s)};
  auto hang = find_hang(ranks, kStart + 61s, 60s);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->index, 1U);
  EXPECT_THAT(hang->text(), HasSubstr("nothing of its process moves"));
  ranks[2].is_suspended = true;
  hang = find_hang(ranks, kStart + 61s, 60s);
  EXPECT_EQ(hang->index, 2U);
  EXPECT_THAT(hang->text(), HasSubstr("its process is stopped"));
}

TEST(HangWatch, WhoeverIsNotWatchedIsNotBlamed) {
  RankProgress resting = rank_at(1, 0s, 60s);
  resting.is_watched = false;
  const auto hang = find_hang({resting, rank_at(9, 1s, 60s)}, kStart + 61s, 60s);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->index, 1U);
  EXPECT_EQ(hang->text(), "made no step for 60.0 s: it has done 9");
}

}  // namespace
}  // namespace deepscale
