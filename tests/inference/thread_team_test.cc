#include "runtime/inference/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace deepscale {
namespace {

TEST(ThreadTeam, EveryElementIsWorkedOnOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    EXPECT_EQ(team.size(), threads);
    for (const std::int64_t count : {0, 1, 7, 64, 1001}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      for (int round = 1; round <= 20; ++round) {
        team.run(count, 4, [&](std::int64_t begin, std::int64_t end) {
          EXPECT_EQ(begin % 4, 0);
          for (std::int64_t i = begin; i < end; ++i) visits[i].fetch_add(1);
        });
        for (const auto& visit : visits) EXPECT_EQ(visit.load(), round);
      }
    }
  }
}

TEST(ThreadTeam, AnExceptionComesOutAndTheTeamGoesOn) {
  ThreadTeam team(3);
  EXPECT_THROW(team.run(100, 1,
                        [](std::int64_t begin, std::int64_t) {
                          if (begin >= 50) throw std::runtime_error("piece");
                        }),
               std::runtime_error);
  std::atomic<std::int64_t> sum{0};
  team.run(100, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum.load(), 100);
}

}  // namespace
}  // namespace deepscale
