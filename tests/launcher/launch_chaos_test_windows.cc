// Terminates a rank or the launcher of a real job at random moments of its life, as Task Manager does:
// nothing may remain, the launcher must end in time, and it must name whoever was hit first. A failure names
// its seed; DEEPSCALE_CHAOS_SEED=<seed> replays it, DEEPSCALE_CHAOS_RUNS sets how many are tried.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/agents/child_run.h"
#include "tests/launcher/dice.h"
#include "tests/launcher/job_windows.h"

namespace deepscale::testing {
namespace {

constexpr unsigned kBlowCode = 77;  // no rank exits with it by itself

enum class Moment { kStarting, kRunning, kStopping, kFailing, kRestarting };
constexpr const char* kMoments[] = {"starting", "running", "stopping", "failing", "restarting"};

struct Scenario {
  explicit Scenario(Dice& dice)
      : moment(static_cast<Moment>(dice.roll(5))), hits_launcher(dice.is_one_in(2)), ranks(2 + dice.roll(3)) {
    for (const char* action : {"ignore-stop", "grandchild", "detached-grandchild"}) {
      if (dice.is_one_in(2)) actions.push_back(action);
    }
    actions.push_back("out=ready\n");
    if (dice.is_one_in(3)) actions.push_back("close-output");
    actions.push_back("hang");
  }

  std::vector<std::string> arguments() const {
    std::vector<std::string> words = {"--grace", "100ms", "--num_gpus", std::to_string(ranks)};
    if (moment == Moment::kRestarting) words.insert(words.end(), {"--max_restarts", "1"});
    words.push_back(DEEPSCALE_TEST_CHILD);
    words.insert(words.end(), actions.begin(), actions.end());
    return words;
  }

  std::string text() const {
    return fmt::format("{} is terminated while the job is {}; {} ranks: {}",
                       hits_launcher ? "the launcher" : "a rank", kMoments[static_cast<int>(moment)], ranks,
                       fmt::join(actions, " "));
  }

  Moment moment;
  bool hits_launcher;
  int ranks;
  std::vector<std::string> actions;  // of every rank
};

class ChaosRun {
 public:
  explicit ChaosRun(std::uint32_t seed) : dice_(seed), scenario_(dice_), job_(scenario_.arguments()) {}

  std::string scenario() const { return scenario_.text(); }
  const std::string& transcript() const { return job_.transcript(); }
  void run();

 private:
  void reach_the_moment();
  // Whether it was the launcher, which is the victim also where no rank is there to be hit.
  bool strike();
  void end_what_goes_on();
  void check_end(unsigned exit_code);

  Dice dice_;
  const Scenario scenario_;
  WindowsJob job_;
  std::vector<int> victims_;  // ranks that were hit
  bool was_asked_to_stop_ = false;
};

void ChaosRun::run() {
  ASSERT_NO_FATAL_FAILURE(reach_the_moment());
  const bool was_launcher = strike();
  if (!was_launcher) end_what_goes_on();
  const auto exit_code = job_.finish();
  ASSERT_TRUE(exit_code) << "the launcher hangs";
  if (!was_launcher) check_end(*exit_code);
  EXPECT_TRUE(wait_until([&] { return job_.launcher().living_processes() == 0; }))
      << job_.launcher().living_processes() << " processes are left";
}

void ChaosRun::reach_the_moment() {
  if (scenario_.moment == Moment::kStarting) {
    const int count = dice_.roll(scenario_.ranks + 1);
    ASSERT_TRUE(job_.wait_for([&] { return job_.ranks_started() >= count; }));
    return dice_.pause(30);
  }
  ASSERT_TRUE(job_.wait_for([&] { return job_.ranks_ready() == scenario_.ranks; }));
  if (scenario_.moment == Moment::kStopping) {
    was_asked_to_stop_ = job_.ask_to_stop();
    ASSERT_TRUE(was_asked_to_stop_);
  }
  if (scenario_.moment == Moment::kFailing || scenario_.moment == Moment::kRestarting) {
    victims_.push_back(dice_.roll(scenario_.ranks));
    terminate_process(job_.pid_of(victims_[0]).value(), kBlowCode);
    ASSERT_TRUE(
        job_.wait_for([&] { return job_.has_exited(victims_[0]) || !job_.last("failure").is_null(); }));
  }
  if (scenario_.moment != Moment::kRunning) dice_.pause(150);
}

bool ChaosRun::strike() {
  job_.wait_for([] { return true; });  // what it has told meanwhile
  const int rank = dice_.roll(scenario_.ranks);
  const auto pid = job_.pid_of(rank);
  if (scenario_.hits_launcher || !pid) {
    job_.launcher().terminate();
    return true;
  }
  terminate_process(*pid, kBlowCode);
  victims_.push_back(rank);
  return false;
}

// A job that restarts after the blow, or was struck in a generation that was ending anyway.
void ChaosRun::end_what_goes_on() {
  if (scenario_.moment != Moment::kRestarting) return;
  const auto is_finished = [&] { return !job_.last("job_finished").is_null(); };
  const auto is_running = [&] { return job_.generation() == 1 && job_.ranks_ready() == scenario_.ranks; };
  EXPECT_TRUE(job_.wait_for([&] { return is_finished() || is_running(); }));
  if (!is_finished()) was_asked_to_stop_ = job_.ask_to_stop();
}

void ChaosRun::check_end(unsigned exit_code) {
  const WindowsJob::Json& end = job_.last("job_finished");
  ASSERT_FALSE(end.is_null()) << "exit code " << exit_code;
  EXPECT_EQ(end["exit_code"], exit_code);
  if (end["outcome"] == "stopped") {
    EXPECT_TRUE(was_asked_to_stop_);
    EXPECT_EQ(exit_code, 128 + 15U);
    return;
  }
  EXPECT_EQ(end["outcome"], "failed");
  EXPECT_EQ(exit_code, kBlowCode);
  const WindowsJob::Json& failure = job_.last("failure");
  ASSERT_FALSE(failure.is_null());
  // In a job that fails already, the later blow is no first cause.
  const auto last = scenario_.moment == Moment::kFailing ? victims_.begin() + 1 : victims_.end();
  EXPECT_NE(std::find(victims_.begin(), last, failure["rank"].get<int>()), last)
      << "this is not the first cause";
}

TEST(LaunchChaosOnWindows, NothingRemainsNothingHangsAndTheFirstCauseIsRight) {
  for (const std::uint32_t seed : chaos_seeds(10)) {
    ChaosRun chaos(seed);
    chaos.run();
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ": " << chaos.scenario()
                               << "\nreplay with DEEPSCALE_CHAOS_SEED=" << seed << "; the launcher told:\n"
                               << chaos.transcript();
  }
}

TEST(LaunchOnWindows, TheStopEventEndsAJob) {
  WindowsJob job(
      {"--grace", "100ms", "--num_gpus", "2", DEEPSCALE_TEST_CHILD, "grandchild", "out=ready\n", "hang"});
  ASSERT_TRUE(job.wait_for([&] { return job.ranks_ready() == 2; })) << job.transcript();
  ASSERT_TRUE(job.ask_to_stop());
  EXPECT_EQ(job.finish(), 128 + 15U) << job.transcript();
  EXPECT_TRUE(wait_until([&] { return job.launcher().living_processes() == 0; }));
}

TEST(LaunchOnWindows, ARankThatAsksItsLinkSavesAndLeavesAtTheStopEvent) {
  WindowsJob job({"--grace", "60s", "--num_gpus", "1", DEEPSCALE_TEST_LINK_PROGRAM, "steps=100000"});
  ASSERT_TRUE(job.wait_for([&] { return job.has_told("trains"); })) << job.transcript();
  ASSERT_TRUE(job.ask_to_stop());
  EXPECT_EQ(job.finish(), 75U) << job.transcript();
  EXPECT_EQ(job.last("job_finished")["outcome"], "preempted");
  EXPECT_TRUE(job.has_told("saved after")) << job.transcript();
}

TEST(LaunchOnWindows, TheSecondStopEventKillsAtOnce) {
  WindowsJob job({"--grace", "10m", "--num_gpus", "1", DEEPSCALE_TEST_LINK_PROGRAM, "hang@20"});
  ASSERT_TRUE(job.wait_for([&] { return job.has_told("hangs"); })) << job.transcript();
  ASSERT_TRUE(job.ask_to_stop());
  ASSERT_TRUE(job.wait_for([&] { return job.has_told("once more kills"); })) << job.transcript();
  ASSERT_TRUE(job.ask_to_stop());
  EXPECT_EQ(job.finish(), 128 + 15U) << job.transcript();
}

}  // namespace
}  // namespace deepscale::testing
