// Kills and stops the processes of a job at random moments: nothing may remain, and the first cause must be
// right. A failure is replayed with DEEPSCALE_CHAOS_SEED=<seed>; DEEPSCALE_CHAOS_RUNS sets how many seeds are
// tried.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/agents/node_run.h"

namespace deepscale::testing {
namespace {

constexpr auto kSoon = std::chrono::seconds(10);

std::vector<std::uint32_t> seeds(std::int64_t default_runs) {
  const Environment environment = Environment::of_process();
  if (const auto seed = environment.get_integer("DEEPSCALE_CHAOS_SEED"))
    return {static_cast<std::uint32_t>(*seed)};
  std::vector<std::uint32_t> all(
      static_cast<std::size_t>(environment.get_integer("DEEPSCALE_CHAOS_RUNS").value_or(default_runs)));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint32_t>(i + 1);
  return all;
}

// Three ranks with every kind of grandchild, 12 processes when all are there, and 3 supervisors and the
// agent.
const std::vector<std::string> kFamily = {"ignore-stop", "grandchild", "detached-grandchild",
                                          "orphan-grandchild", "hang"};
constexpr int kWholeJob = 16;

pid_t start_agent(const JobMark& mark) {
  std::vector<std::string> words = {DEEPSCALE_TEST_AGENT, "3"};
  words.insert(words.end(), kFamily.begin(), kFamily.end());
  const Environment marked = mark.environment();
  std::vector<std::string> variables;
  for (const auto& [name, value] : marked.variables()) variables.push_back(name + "=" + value);
  std::vector<char*> arguments;
  std::vector<char*> environment;
  for (auto& word : words) arguments.push_back(word.data());
  for (auto& variable : variables) environment.push_back(variable.data());
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork failed");  // never a -1 that someone could kill
  if (pid > 0) return pid;
  ::dup2(::open("/dev/null", O_WRONLY), STDOUT_FILENO);
  ::execve(arguments[0], arguments.data(), environment.data());
  ::_exit(127);
}

std::vector<pid_t> children_of(pid_t pid) {
  const std::string process = "/proc/" + std::to_string(pid);
  std::ifstream list(process + "/task/" + std::to_string(pid) + "/children");
  std::vector<pid_t> children;
  for (pid_t child = 0; list >> child;) children.push_back(child);
  return children;
}

TEST(NodeAgentChaos, NothingRemainsWhenTheAgentIsKilledAtARandomMoment) {
  for (const std::uint32_t seed : seeds(40)) {
    std::mt19937 random(seed);
    const JobMark mark;
    const pid_t agent = start_agent(mark);
    // From the first instruction to long after the last grandchild was started.
    ::usleep(random() % 40'000);
    if (random() % 4 == 0) ::kill(agent, SIGSTOP);
    ::kill(agent, SIGKILL);
    ::waitpid(agent, nullptr, 0);
    ASSERT_TRUE(wait_until([&] { return mark.living_processes() == 0; }, kSoon))
        << "seed " << seed << ": " << mark.living_processes() << " left";
  }
}

TEST(NodeAgentChaos, NothingRemainsWhenASupervisorIsStoppedAndTheAgentKilled) {
  const JobMark mark;
  const pid_t agent = start_agent(mark);
  ASSERT_TRUE(wait_until([&] { return mark.living_processes() == kWholeJob; }, kSoon));
  for (const pid_t supervisor : children_of(agent)) ::kill(supervisor, SIGSTOP);
  ::kill(agent, SIGKILL);
  ::waitpid(agent, nullptr, 0);
  EXPECT_TRUE(wait_until([&] { return mark.living_processes() == 0; }, kSoon));
}

TEST(NodeAgentChaos, NothingRemainsWhenASupervisorIsKilledAtARandomMoment) {
  for (const std::uint32_t seed : seeds(20)) {
    std::mt19937 random(seed);
    const JobMark mark;
    const pid_t agent = start_agent(mark);
    ::usleep(random() % 40'000);
    const auto supervisors = children_of(agent);
    const pid_t victim = supervisors.empty() ? agent : supervisors[random() % supervisors.size()];
    ::kill(victim, SIGKILL);
    int status = 0;  // the ranks ignore SIGTERM, so the agent needs its grace for the others
    ASSERT_TRUE(wait_until([&] { return ::waitpid(agent, &status, WNOHANG) == agent; }, 2 * kSoon))
        << "seed " << seed;
    EXPECT_NE(status, 0) << "seed " << seed;
    ASSERT_TRUE(wait_until([&] { return mark.living_processes() == 0; }, kSoon)) << "seed " << seed;
  }
}

// One rank is killed, or stopped and then killed, somewhere in its life: it is the cause, and no other.
TEST(NodeAgentChaos, TheRankThatWasKilledIsTheFirstCause) {
  for (const std::uint32_t seed : seeds(40)) {
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
    ASSERT_TRUE(run.finish(kSoon)) << "seed " << seed;
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
