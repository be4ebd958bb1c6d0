// What ranks tell their agent over their links, and what it does with it. Real children, on every system.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agents/node/node_agent.h"
#include "tests/agents/node_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

NodeAgentOptions with_grace(Clock::duration grace) {
  NodeAgentOptions options;
  options.grace = grace;
  return options;
}

NodeAgentOptions with_limit(Clock::duration limit) {
  NodeAgentOptions options;
  options.heartbeat_timeout = limit;
  return options;
}

TEST(NodeAgentLink, ARankThatUsesItsLinkIsJoinedAndRuns) {
  NodeRun run({{"join", "heartbeat=7", "report=why", "exit=1"}});
  run.agent->start();
  ASSERT_TRUE(run.finish());
  EXPECT_THAT(run.states[0], ElementsAre(RankState::kSpawning, RankState::kStarted, RankState::kJoined,
                                         RankState::kRunning, RankState::kExited));
  const RankResult& rank = run.result->ranks[0];
  EXPECT_EQ(rank.steps, 7);
  ASSERT_TRUE(rank.reported);
  EXPECT_EQ(rank.reported->kind, RankFailure::kException);
  EXPECT_EQ(rank.reported->message, "why");
}

TEST(NodeAgentLink, AHeartbeatTakesAReportBack) {
  const TemporaryFolder folder;
  const std::string wait = "wait-for=" + (folder.path() / "go").string();
  NodeRun run({{"join", "report=it went on after that", "heartbeat=1", "rest", wait, "report-peer-lost=last",
                "exit=1"},
               {"join", "report=it went on after that", "heartbeat=1", "exit=0"}});
  run.agent->start();
  ASSERT_TRUE(run_until(run.io, [&] { return run.states[1].back() == RankState::kExited; }));
  folder.write("go", "");
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.result->ranks[0].reported->message, "last");
  EXPECT_EQ(run.result->first_cause, 0U);
}

// Both failed by themselves: one says that it lost the other, and its process ends first.
TEST(NodeAgentLink, WhoLostItsPeersIsNoCauseWhereAnotherFailed) {
  const TemporaryFolder folder;
  const auto signal = folder.path() / "go";
  NodeRun run(
      {{"join", "report-peer-lost=rank 11 has gone", "out=ready\n", "wait-for=" + signal.string(), "exit=1"},
       {"join", "report=division by zero", "ignore-stop", "out=ready\n", "hang"}},
      with_grace(std::chrono::milliseconds(300)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  folder.write("go", "");
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.result->first_cause, 1U);
  EXPECT_EQ(run.result->ranks[1].reported->message, "division by zero");
}

TEST(NodeAgentLink, ARankIsToldToStopOverItsLink) {
  NodeRun run({{"ignore-stop", "join", "out=ready\n", "wait-for-stop", "out=saved\n", "exit=0"}},
              with_grace(std::chrono::minutes(1)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  run.agent->request_stop(StopSignal::kTerminate);
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.result->is_success());
  EXPECT_THAT(run.lines, ::testing::Contains("10 out: saved"));
}

// No signal: it has no handler, and would end before it has saved.
TEST(NodeAgentLink, WhoAsksForStopRequestsIsToldByTheLinkAlone) {
  // The report is acknowledged, so the agent knows that it asks when it is ready.
  NodeRun run({{"join", "ask", "report=none", "heartbeat=1", "out=ready\n", "wait-for-stop", "out=saved\n",
                "exit=0"}},
              with_grace(std::chrono::minutes(1)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  run.agent->request_stop(StopSignal::kTerminate);
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.result->is_success()) << run.status(0).text();
  EXPECT_TRUE(run.status(0).stopped_by_us);
  EXPECT_THAT(run.lines, Contains("10 out: saved"));
}

TEST(NodeAgentLink, WhoFailsWhileItLeavesIsNoCause) {
  NodeRun run({{"ignore-stop", "join", "out=ready\n", "wait-for-stop", "exit=3"}},
              with_grace(std::chrono::minutes(1)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  run.agent->request_stop(StopSignal::kTerminate);
  ASSERT_TRUE(run.finish());
  EXPECT_FALSE(run.result->first_cause);
  EXPECT_EQ(run.status(0).code, 3);
}

// Ranks that begin together, however slow the machine is: each says that it is ready, and waits for the file.
class HangingRanks {
 public:
  // Each rank: what it does before and after the beginning.
  HangingRanks(const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>>& ranks,
               NodeAgentOptions options) {
    std::vector<std::vector<std::string>> actions;
    for (const auto& [before, after] : ranks) {
      actions.push_back(before);
      actions.back().insert(actions.back().end(),
                            {"out=ready\n", "wait-for=" + (folder_.path() / "go").string()});
      actions.back().insert(actions.back().end(), after.begin(), after.end());
    }
    run.emplace(std::move(actions), options);
  }
  bool finish() {
    run->agent->start();
    if (!run->wait_until_ready()) return false;
    folder_.write("go", "");
    return run->finish();
  }

  std::optional<NodeRun> run;

 private:
  const TemporaryFolder folder_;
};

TEST(NodeAgentHang, NamesTheRankFurthestBehindAndEndsAll) {
  HangingRanks ranks({{{"join"}, {"heartbeat=2", "hang"}},
                      {{"join"}, {"heartbeat=1", "hang"}},
                      {{"join"}, {"heartbeat=2", "hang"}}},
                     with_limit(std::chrono::milliseconds(1500)));
  ASSERT_TRUE(ranks.finish());
  const NodeResult& result = *ranks.run->result;
  ASSERT_TRUE(result.hang);
  EXPECT_EQ(result.first_cause, 1U);
  EXPECT_EQ(result.hang->index, 1U);
  EXPECT_EQ(result.hang->steps, 1);
  EXPECT_THAT(result.hang->text(), HasSubstr("it has done 1, others up to 2"));
  EXPECT_EQ(ranks.run->hangs, 1);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(ranks.run->status(i).stopped_by_us);
}

TEST(NodeAgentHang, TheStacksOfEveryRankAreAmongItsErrors) {
  HangingRanks ranks({{{"join"}, {"heartbeat=1", "hang"}}, {{"join"}, {"hang"}}},
                     with_limit(std::chrono::milliseconds(300)));
  ASSERT_TRUE(ranks.finish());
  EXPECT_THAT(ranks.run->lines, Contains(HasSubstr("10 err: deepscale: stack of thread")));
  EXPECT_THAT(ranks.run->lines, Contains(HasSubstr("11 err: deepscale: stack of thread")));
  EXPECT_THAT(ranks.run->result->ranks[0].last_error_lines, Contains(HasSubstr("stack of thread")));
  EXPECT_THAT(ranks.run->without_stacks, ElementsAre());
}

// It must not die of the request for its stacks: that it cannot print them is told.
TEST(NodeAgentHang, ARankThatCannotPrintItsStacksIsLeftAlone) {
  HangingRanks ranks(
      {{{"join"}, {"heartbeat=1", "hang"}}, {{"ignore-stop"}, {"hang"}}},
      {.grace = std::chrono::milliseconds(300), .heartbeat_timeout = std::chrono::milliseconds(300)});
  ASSERT_TRUE(ranks.finish());
  EXPECT_THAT(ranks.run->without_stacks, ElementsAre(11));
  EXPECT_EQ(ranks.run->result->first_cause, 0U);
  const auto& states = ranks.run->states[1];
  EXPECT_EQ(states.at(states.size() - 2), RankState::kKilling) << "it lived to the end of the grace";
}

TEST(NodeAgentHang, WhoRestsOrSendsNoHeartbeatIsNotWatched) {
  const TemporaryFolder folder;
  const std::string release = "wait-for=" + (folder.path() / "go").string();
  NodeRun run({{"join", "heartbeat=1", "rest", release, "exit=0"}, {"join", release}, {release}},
              with_limit(std::chrono::milliseconds(500)));
  run.agent->start();
  EXPECT_FALSE(run_until(
      run.io, [&] { return run.hangs > 0; }, std::chrono::milliseconds(1200)));
  folder.write("go", "");
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.result->is_success());
}

}  // namespace
}  // namespace deepscale::testing
