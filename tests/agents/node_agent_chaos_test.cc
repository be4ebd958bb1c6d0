// Kills and stops the processes of a job at random moments: nothing may remain, and the first cause must be
// right. A failure is replayed with DEEPSCALE_CHAOS_SEED=<seed>; DEEPSCALE_CHAOS_RUNS sets how many seeds are
// tried.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <random>
#include <string>
#include <vector>

#include "tests/agents/marked_process.h"
#include "tests/agents/node_run.h"

namespace deepscale::testing {
namespace {

// Three ranks with every kind of grandchild, 12 processes when all are there, and 3 supervisors and the
// agent.
const std::vector<std::string> kFamily = {"ignore-stop", "grandchild", "detached-grandchild",
                                          "orphan-grandchild", "hang"};
constexpr int kWholeJob = 16;

std::vector<std::string> agent_command() {
  std::vector<std::string> words = {DEEPSCALE_TEST_AGENT, "3"};
  words.insert(words.end(), kFamily.begin(), kFamily.end());
  return words;
}

class NodeAgentChaos : public ::testing::Test {
 protected:
  ~NodeAgentChaos() override { ::close(nowhere_); }

  const int nowhere_ = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
};

TEST_F(NodeAgentChaos, NothingRemainsWhenTheAgentIsKilledAtARandomMoment) {
  for (const std::uint32_t seed : chaos_seeds(40)) {
    std::mt19937 random(seed);
    const JobMark mark;
    MarkedProcess agent(agent_command(), mark, nowhere_);
    // From the first instruction to long after the last grandchild was started.
    ::usleep(random() % 40'000);
    if (random() % 4 == 0) agent.send(SIGSTOP);
    agent.send(SIGKILL);
    ASSERT_TRUE(agent.wait());
    ASSERT_TRUE(wait_until([&] { return mark.living_processes() == 0; }))
        << "seed " << seed << ": " << mark.living_processes() << " left";
  }
}

TEST_F(NodeAgentChaos, NothingRemainsWhenASupervisorIsStoppedAndTheAgentKilled) {
  const JobMark mark;
  MarkedProcess agent(agent_command(), mark, nowhere_);
  ASSERT_TRUE(wait_until([&] { return mark.living_processes() == kWholeJob; }));
  for (const pid_t supervisor : children_of(agent.pid())) ::kill(supervisor, SIGSTOP);
  agent.send(SIGKILL);
  ASSERT_TRUE(agent.wait());
  EXPECT_TRUE(wait_until([&] { return mark.living_processes() == 0; }));
}

TEST_F(NodeAgentChaos, NothingRemainsWhenASupervisorIsKilledAtARandomMoment) {
  for (const std::uint32_t seed : chaos_seeds(20)) {
    std::mt19937 random(seed);
    const JobMark mark;
    MarkedProcess agent(agent_command(), mark, nowhere_);
    ::usleep(random() % 40'000);
    const auto supervisors = children_of(agent.pid());
    const pid_t victim = supervisors.empty() ? agent.pid() : supervisors[random() % supervisors.size()];
    ::kill(victim, SIGKILL);
    // The ranks ignore SIGTERM, so the agent needs its grace for the others.
    const auto status = agent.wait();
    ASSERT_TRUE(status) << "seed " << seed;
    EXPECT_NE(*status, 0) << "seed " << seed;
    ASSERT_TRUE(wait_until([&] { return mark.living_processes() == 0; })) << "seed " << seed;
  }
}

// One rank is killed, or stopped and then killed, somewhere in its life: it is the cause, and no other.
TEST_F(NodeAgentChaos, TheRankThatWasKilledIsTheFirstCause) {
  for (const std::uint32_t seed : chaos_seeds(40)) {
    std::mt19937 random(seed);
    NodeAgentOptions options;
    options.grace = std::chrono::milliseconds(100);
    NodeRun run({kFamily, {"out=ready\n", "hang"}, kFamily}, options);
    run.agent->start();
    const std::size_t victim = random() % 3;
    boost::asio::steady_timer timer(run.io, std::chrono::microseconds(random() % 30'000));
    timer.async_wait([&](const boost::system::error_code&) {
      const pid_t pid = static_cast<pid_t>(run.pids.at(victim));
      ASSERT_GT(pid, 0);
      if (random() % 2 == 0) ::kill(pid, SIGSTOP);
      ::kill(pid, SIGKILL);
    });
    ASSERT_TRUE(run.finish()) << "seed " << seed;
    ASSERT_EQ(run.result->first_cause, victim) << "seed " << seed;
    EXPECT_EQ(run.status(victim).text(), "killed by signal 9 (SIGKILL)") << "seed " << seed;
    for (std::size_t other = 0; other < 3; ++other) {
      EXPECT_EQ(run.status(other).stopped_by_us, other != victim) << "seed " << seed << ", rank " << other;
    }
    EXPECT_TRUE(children_of(::getpid()).empty()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace deepscale::testing
