// Ranks that are killed with -9 at any moment: the others get an error, and nothing remains.
#include <gmock/gmock.h>

#include <random>

#include "tests/comm/rank_processes.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kRanks = 3;

class KilledRank : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Backends, KilledRank, ::testing::Values(DEEPSCALE_TEST_BACKENDS),
                         [](const auto& backend) { return backend.param; });

// From 1 element, which travels with its announcement, to pipelines of many pieces. The communicator's own
// timeout is half an hour, so nothing but the death of the peer can end the others. The first to notice names
// the dead rank; another may notice first that this one gave up.
TEST_P(KilledRank, EndsTheOperationsOfAllOthers) {
  if (GetParam() == "tcp" && Environment::of_process().get("WINEPREFIX")) {
    GTEST_SKIP() << "Wine 8 keeps sockets of a killed process open while a transfer is under way on them";
  }
  std::mt19937 random(1);
  for (const std::vector<std::string>& counts :
       {std::vector<std::string>{"1"}, {"300000"}, {"2000000"}, {"1", "300000", "5000"}}) {
    std::vector<std::string> arguments{GetParam()};
    arguments.insert(arguments.end(), counts.begin(), counts.end());
    RankProcesses ranks(DEEPSCALE_TEST_RANK, kRanks, 1, arguments);
    ASSERT_TRUE(ranks.are_running()) << ranks[0].out << ranks[1].out << ranks[2].out;
    const int victim = static_cast<int>(random() % kRanks);
    run_until(
        ranks[victim].io, [] { return false; }, std::chrono::milliseconds(random() % 50));
    ranks[victim].process->kill();
    const std::string lost_the_victim = "lost rank " + std::to_string(victim);
    int named_it = 0;
    for (int rank = 0; rank < kRanks; ++rank) {
      ASSERT_TRUE(ranks[rank].finish()) << "rank " << rank << " of " << counts[0] << " hangs";
      if (rank == victim) continue;
      EXPECT_THAT(ranks[rank].out, HasSubstr("lost rank "));
      EXPECT_EQ(ranks[rank].status->code, 3) << ranks[rank].out;
      if (ranks[rank].out.find(lost_the_victim) != std::string::npos) ++named_it;
    }
    EXPECT_GE(named_it, 1);
    EXPECT_EQ(segments_in_dev_shm(), 0);
  }
}

TEST_P(KilledRank, LeavesNothingWhenAllAreKilled) {
  RankProcesses ranks(DEEPSCALE_TEST_RANK, kRanks, 1, {GetParam(), "1", "300000"});
  ASSERT_TRUE(ranks.are_running());
  for (int rank = 0; rank < kRanks; ++rank) ranks[rank].process->kill();
  for (int rank = 0; rank < kRanks; ++rank) EXPECT_TRUE(ranks[rank].finish());
  EXPECT_EQ(segments_in_dev_shm(), 0);
}

}  // namespace
}  // namespace deepscale::testing
