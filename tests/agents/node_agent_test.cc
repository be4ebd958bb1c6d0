// The ranks of a node as a unit: output, first cause, teardown. Real children, on every system.
#include "agents/node/node_agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio.hpp>  // Boost.Process 1.81 needs it for Windows and does not include it
#include <boost/process/child.hpp>
#include <boost/process/io.hpp>
#include <string>
#include <vector>

#include "tests/agents/node_run.h"

namespace deepscale::testing {
namespace {

using How = ExitStatus::How;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

const std::vector<std::string> kStubborn = {"ignore-stop", "out=ready\n", "hang"};

NodeAgentOptions with_grace(Clock::duration grace) {
  NodeAgentOptions options;
  options.grace = grace;
  return options;
}

TEST(NodeAgent, EndsWellWhenAllRanksDo) {
  NodeRun run({{"out=a\n"}, {"err=b\n", "out=c"}, {}});
  run.agent->start();
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.result->is_success());
  EXPECT_FALSE(run.result->first_cause);
  EXPECT_THAT(run.lines, UnorderedElementsAre("10 out: a", "11 err: b", "11 out: c"));
  ASSERT_EQ(run.result->ranks.size(), 3U);
  const RankResult& second = run.result->ranks[1];
  EXPECT_EQ(second.rank, 11);
  EXPECT_EQ(second.local_rank, 1);
  EXPECT_GT(second.pid, 0);
  EXPECT_LE(second.started_at, second.ended_at);
  EXPECT_THAT(second.last_error_lines, ElementsAre("b"));
  EXPECT_THAT(run.states[0], ElementsAre(RankState::kSpawning, RankState::kStarted, RankState::kExited));
  run.io.run();
  EXPECT_EQ(run.finished_calls, 1);
}

TEST(NodeAgent, ARankMayEndEarly) {
  NodeRun run({{"exit=0"}, {"out=ready\n", "lines=1000"}});
  run.agent->start();
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.result->is_success());
}

TEST(NodeAgent, NamesTheFirstCauseAndEndsTheOthers) {
  NodeRun run({{"out=ready\n", "hang"},
               {"err=it broke\n", "exit=3"},
               {"out=ready\n", "hang"},
               {"out=ready\n", "hang"}});
  run.agent->start();
  ASSERT_TRUE(run.finish());
  ASSERT_EQ(run.result->first_cause, 1U);
  EXPECT_EQ(run.status(1).code, 3);
  EXPECT_FALSE(run.status(1).stopped_by_us);
  EXPECT_THAT(run.result->ranks[1].last_error_lines, ElementsAre("it broke"));
  for (const std::size_t other : {0, 2, 3}) EXPECT_TRUE(run.status(other).stopped_by_us) << other;
  EXPECT_FALSE(run.result->stop_request);
}

TEST(NodeAgent, KillsStubbornRanksTogetherAfterTheGrace) {
  NodeRun run({kStubborn, kStubborn, kStubborn, kStubborn}, with_grace(std::chrono::milliseconds(300)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  run.agent->request_stop(StopSignal::kTerminate);
  ASSERT_TRUE(run.finish());
  const auto first_end = std::find(run.story.begin(), run.story.end(), RankState::kExited);
  EXPECT_EQ(std::count(run.story.begin(), first_end, RankState::kKilling), 4)
      << "one deadline for all, not one for each";
  EXPECT_EQ(run.result->stop_request, StopSignal::kTerminate);
  EXPECT_FALSE(run.result->first_cause);
  EXPECT_FALSE(run.result->was_killed);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(run.status(i).stopped_by_us);
    EXPECT_EQ(run.states[i].at(run.states[i].size() - 2), RankState::kKilling);
  }
}

TEST(NodeAgent, KillNowDoesNotWaitForTheGrace) {
  NodeRun run({kStubborn, kStubborn}, with_grace(std::chrono::minutes(1)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  run.agent->request_stop(StopSignal::kInterrupt);
  run.agent->kill_now();
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.result->was_killed);
  EXPECT_EQ(run.result->stop_request, StopSignal::kInterrupt);
}

TEST(NodeAgent, AProgramThatIsNotThereIsTheCause) {
  boost::asio::io_context io;
  auto missing = child_options({});
  missing.program = "/no/such/program";
  NodeRun listener({{}, {}, {}});
  NodeAgent agent(io, {{0, 0, child_options({"hang"})}, {1, 1, missing}, {2, 2, child_options({"hang"})}},
                  listener);
  agent.start();
  ASSERT_TRUE(run_until(io, [&] { return listener.result.has_value(); }));
  ASSERT_EQ(listener.result->first_cause, 1U);
  EXPECT_EQ(listener.status(1).how, How::kSpawnFailed);
  EXPECT_EQ(listener.status(1).shell_code(), 127);
  EXPECT_THAT(listener.status(1).text(), HasSubstr("/no/such/program"));
  for (const std::size_t other : {0, 2}) {
    EXPECT_TRUE(listener.status(other).how == How::kNotStarted || listener.status(other).stopped_by_us)
        << other;
  }
  EXPECT_THAT(listener.states[1], ElementsAre(RankState::kSpawning, RankState::kSpawnFailed));
}

TEST(NodeAgent, AStopBeforeTheStartStartsNothing) {
  NodeRun run({{"hang"}, {"hang"}});
  run.agent->request_stop(StopSignal::kTerminate);
  run.agent->start();
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status(0).how, How::kNotStarted);
  EXPECT_EQ(run.result->ranks[1].pid, 0);
  EXPECT_FALSE(run.result->is_success());
}

TEST(NodeAgent, NoRanksAreDoneAtOnce) {
  NodeRun run({});
  run.agent->start();
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.result->is_success());
}

TEST(NodeAgent, NoLineIsLostOrTorn) {
  constexpr int kLines = 20'000;
  constexpr std::size_t kRanks = 4;
  NodeRun run(std::vector<std::vector<std::string>>(kRanks, {"lines=" + std::to_string(kLines)}));
  run.agent->start();
  ASSERT_TRUE(run.finish(std::chrono::seconds(40)));
  std::vector<int> next(kRanks, 0);
  for (const std::string& line : run.lines) {
    const auto rank = static_cast<std::size_t>(std::stoi(line) - 10);
    const std::string expected =
        " out: line " + std::to_string(next[rank]++) + " of a rank that has much to tell";
    ASSERT_EQ(line.substr(line.find(' ')).substr(0, expected.size()), expected);
  }
  EXPECT_THAT(next, ::testing::Each(kLines));
}

TEST(NodeAgent, KeepsTheEndOfTheErrors) {
  NodeAgentOptions options;
  options.kept_error_lines = 3;
  NodeRun run({{"err=1\n2\n3\n4\n", "err=half a line", "exit=1"}}, options);
  run.agent->start();
  ASSERT_TRUE(run.finish());
  EXPECT_THAT(run.result->ranks[0].last_error_lines, ElementsAre("3", "4", "half a line"));
}

TEST(NodeAgent, ABlockedSinkBlocksTheRanksButNotTheEnd) {
  NodeRun run({{"out=ready\n", "flood=100", "hang"}, {"out=ready\n", "hang"}},
              with_grace(std::chrono::milliseconds(200)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  run.agent->pause_output();
  const auto before = run.lines.size();
  EXPECT_FALSE(run_until(
      run.io, [&] { return run.lines.size() > before; }, std::chrono::milliseconds(100)));
  run.agent->request_stop(StopSignal::kTerminate);
  EXPECT_TRUE(run.finish());
}

TEST(NodeAgent, ItsDestructorEndsAllRanks) {
  NodeRun run({{"ignore-stop", "orphan-grandchild", "out=ready\n", "hang"}, kStubborn});
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  const auto told = std::find_if(run.lines.begin(), run.lines.end(), [](const std::string& line) {
    return line.find(": pid ") != std::string::npos;
  });
  ASSERT_NE(told, run.lines.end());
  const std::int64_t grandchild = std::stoll(told->substr(told->find("pid ") + 4));
  ASSERT_TRUE(is_alive(grandchild));
  run.agent.reset();
  EXPECT_FALSE(is_alive(grandchild));
  run.io.run();
  EXPECT_EQ(run.finished_calls, 0);
}

// The launcher is killed the hard way; its ranks and theirs must go too. (Linux: see node_agent_chaos_test.cc
// for more.)
TEST(NodeAgent, NothingRemainsWhenItsProcessIsKilled) {
  namespace bp = boost::process;
  bp::ipstream output;
  bp::child agent(DEEPSCALE_TEST_AGENT, "2", "ignore-stop", "grandchild", "orphan-grandchild", "hang",
                  bp::std_out > output);
  std::vector<std::int64_t> grandchildren;
  for (std::string line; grandchildren.size() < 4 && std::getline(output, line);) {
    if (line.rfind("pid ", 0) == 0) grandchildren.push_back(std::stoll(line.substr(4)));
  }
  ASSERT_EQ(grandchildren.size(), 4U);
  for (const auto pid : grandchildren) EXPECT_TRUE(is_alive(pid));
  agent.terminate();
  for (const auto pid : grandchildren) EXPECT_TRUE(wait_until([&] { return !is_alive(pid); }));
}

}  // namespace
}  // namespace deepscale::testing
