// Terminates the processes of a job at random moments, as Task Manager does: nothing may remain, and the
// first cause must be right. A failure is replayed with DEEPSCALE_CHAOS_SEED=<seed>; DEEPSCALE_CHAOS_RUNS
// sets how many seeds are tried.
#include <gtest/gtest.h>

#include <boost/asio/steady_timer.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/agents/node_run.h"
#include "tests/agents/scoped_process_windows.h"

namespace deepscale::testing {
namespace {

constexpr unsigned kBlowCode = 77;  // no rank exits with it by itself

// Two ranks with both kinds of grandchild, 6 processes when all are there, and the agent.
const std::vector<std::string> kFamily = {"ignore-stop", "grandchild", "detached-grandchild", "hang"};
constexpr int kWholeJob = 7;

std::vector<std::string> agent_arguments() {
  std::vector<std::string> words = {"2"};
  words.insert(words.end(), kFamily.begin(), kFamily.end());
  return words;
}

TEST(NodeAgentChaosOnWindows, NothingRemainsWhenTheAgentOfAWholeJobIsTerminated) {
  ScopedProcess agent(DEEPSCALE_TEST_AGENT, agent_arguments());
  ASSERT_TRUE(wait_until([&] { return agent.living_processes() == kWholeJob; })) << agent.living_processes();
  agent.terminate();
  EXPECT_TRUE(wait_until([&] { return agent.living_processes() == 0; }))
      << agent.living_processes() << " processes are left";
}

TEST(NodeAgentChaosOnWindows, NothingRemainsWhenTheAgentIsTerminatedAtARandomMoment) {
  for (const std::uint32_t seed : chaos_seeds(10)) {
    std::mt19937 random(seed);
    ScopedProcess agent(DEEPSCALE_TEST_AGENT, agent_arguments());
    // From its first instruction to long after the last grandchild was started.
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 700));
    agent.terminate();
    ASSERT_TRUE(agent.wait()) << "seed " << seed;
    ASSERT_TRUE(wait_until([&] { return agent.living_processes() == 0; }))
        << "seed " << seed << ": " << agent.living_processes() << " processes are left";
  }
}

// One rank is terminated somewhere in its life: it is the cause, and no other.
TEST(NodeAgentChaosOnWindows, TheRankThatWasTerminatedIsTheFirstCause) {
  for (const std::uint32_t seed : chaos_seeds(10)) {
    std::mt19937 random(seed);
    NodeAgentOptions options;
    options.grace = std::chrono::milliseconds(100);
    NodeRun run({kFamily, {"out=ready\n", "hang"}, {"hang"}}, options);
    run.agent->start();
    const std::size_t victim = random() % 3;
    boost::asio::steady_timer timer(run.io, std::chrono::milliseconds(random() % 300));
    timer.async_wait([&](const boost::system::error_code&) {
      ASSERT_GT(run.pids.at(victim), 0);
      terminate_process(run.pids.at(victim), kBlowCode);
    });
    ASSERT_TRUE(run.finish()) << "seed " << seed;
    ASSERT_EQ(run.result->first_cause, victim) << "seed " << seed;
    EXPECT_EQ(run.status(victim).text(), "exit code 77") << "seed " << seed;
    for (std::size_t other = 0; other < 3; ++other) {
      EXPECT_EQ(run.status(other).stopped_by_us, other != victim) << "seed " << seed << ", rank " << other;
    }
  }
}

}  // namespace
}  // namespace deepscale::testing
