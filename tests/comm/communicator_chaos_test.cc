// Ranks run random operations, and one of them is killed at a random moment, again and again, until there
// were ten thousand operations, or half a minute is over: nobody hangs, everybody says why it ended, and
// nothing remains.
#include <gmock/gmock.h>

#include <cstdlib>
#include <random>

#include "tests/comm/rank_processes.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kOperations = 10'000;
constexpr int kLeastJobs = 10;
constexpr auto kLongEnough = std::chrono::seconds(30);  // for a slow machine, or a sanitizer

struct Setting {
  const char* backend;
  int rank_count;
  int hosts;
};

// The largest N of "operations N" that a rank printed.
int operations_of(RankProcesses& ranks) {
  int most = 0;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const std::string word = "operations ";
    const auto found = ranks[rank].out.find(word);
    if (found != std::string::npos)
      most = std::max(most, std::atoi(ranks[rank].out.c_str() + found + word.size()));
  }
  return most;
}

void expect_all_have_ended(RankProcesses& ranks, int victim) {
  for (int rank = 0; rank < ranks.size(); ++rank) {
    ASSERT_TRUE(ranks[rank].finish()) << "rank " << rank << " hangs after rank " << victim << " was killed:\n"
                                      << ranks.output();
    if (rank == victim) continue;
    EXPECT_EQ(ranks[rank].status->code, 3) << ranks[rank].out << ranks[rank].error;
    EXPECT_THAT(ranks[rank].out, HasSubstr("lost rank "));
  }
}

class Chaos : public ::testing::TestWithParam<Setting> {};
std::vector<Setting> settings() {
  std::vector<Setting> all{{"hierarchical", 4, 2}};
  for (const char* backend : {DEEPSCALE_TEST_BACKENDS}) all.push_back({backend, 3, 1});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Backends, Chaos, ::testing::ValuesIn(settings()),
                         [](const auto& setting) { return setting.param.backend; });

TEST_P(Chaos, AKilledRankEndsAllOthersWhateverTheyAreDoing) {
  const Setting setting = GetParam();
  if (setting.backend != std::string("shm") && Environment::of_process().get("WINEPREFIX")) {
    GTEST_SKIP() << "Wine 8 keeps sockets of a killed process open while a transfer is under way on them";
  }
  std::mt19937 random(7);
  int operations = 0;
  const auto enough = Deadline::after(kLongEnough);
  for (int job = 0; job < kLeastJobs || (operations < kOperations && !enough.has_passed()); ++job) {
    RankProcesses ranks(DEEPSCALE_TEST_RANK, setting.rank_count, setting.hosts,
                        {setting.backend, "random", std::to_string(job)});
    ASSERT_TRUE(ranks.are_running()) << ranks.output();
    const int victim = static_cast<int>(random() % static_cast<std::uint32_t>(setting.rank_count));
    run_until(
        ranks[victim].io, [] { return false; }, std::chrono::milliseconds(random() % 300));
    ranks[victim].process->kill();
    expect_all_have_ended(ranks, victim);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
    operations += operations_of(ranks);
  }
  EXPECT_EQ(segments_in_dev_shm(), 0);
}

// It is there and holds what it has, but does nothing: only the deadline of the others can end them.
TEST_P(Chaos, AStoppedRankEndsAllOthersAtTheirDeadline) {
  const Setting setting = GetParam();
  RankProcesses ranks(DEEPSCALE_TEST_RANK, setting.rank_count, setting.hosts,
                      {setting.backend, "random", "1", "8"});
  ASSERT_TRUE(ranks.are_running()) << ranks.output();
  suspend_process(ranks[1].process->pid());
  int timed_out = 0;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (rank == 1) continue;
    ASSERT_TRUE(ranks[rank].finish()) << "rank " << rank << " hangs:\n" << ranks.output();
    if (ranks[rank].out.find("did not finish within 8 s") != std::string::npos) ++timed_out;
  }
  EXPECT_GE(timed_out, 1) << ranks.output();
  ranks[1].process->kill();
  EXPECT_TRUE(ranks[1].finish());
}

}  // namespace
}  // namespace deepscale::testing
