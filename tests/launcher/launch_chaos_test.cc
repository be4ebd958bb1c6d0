// Kills, stops and slows processes of a real job, one or two, at random moments of its life: nothing may
// remain, the launcher must end in time, and it must name whoever was hit first. A failure names its seed;
// DEEPSCALE_CHAOS_SEED=<seed> replays it, DEEPSCALE_CHAOS_RUNS sets how many are tried.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

#include "tests/launcher/dice.h"
#include "tests/launcher/json_job.h"

namespace deepscale::testing {
namespace {

enum class Moment { kStarting, kRunning, kStopping, kFailing, kRestarting, kPrinting };
enum class Victim { kRank, kSupervisor, kLauncher };
enum class Kind { kKill, kStop, kSlow };

struct Blow {
  Victim victim;
  Kind kind;
  bool is(Victim whom, Kind how) const { return victim == whom && kind == how; }
};

constexpr const char* kMoments[] = {"starting", "running", "stopping", "failing", "restarting", "printing"};
constexpr const char* kVictims[] = {"a rank", "a supervisor", "the launcher"};
constexpr const char* kBlows[] = {"killed", "stopped", "slowed"};

// What happens to whom, and when, in the job of a seed.
struct Scenario {
  explicit Scenario(Dice& dice)
      : moment(static_cast<Moment>(dice.roll(6))), blows{roll_blow(dice)}, ranks(2 + dice.roll(3)) {
    if (dice.is_one_in(3) && moment != Moment::kRestarting) blows.push_back(second_blow(dice, blows.front()));
    for (const char* action : {"ignore-stop", "grandchild", "detached-grandchild", "orphan-grandchild"}) {
      if (dice.is_one_in(2)) actions.push_back(action);
    }
    actions.push_back("out=ready\n");
    if (moment == Moment::kPrinting) {
      actions.push_back("flood=2");  // more than fits into all that is between the rank and us
    } else if (dice.is_one_in(3)) {
      actions.push_back("close-output");
    }
    actions.push_back("hang");
  }

  static Blow roll_blow(Dice& dice) {
    const auto victim = static_cast<Victim>(dice.roll(3));
    return {victim, static_cast<Kind>(dice.roll(3))};
  }

  // Not what docs/decisions/0005 excludes: the launcher and a supervisor killed, or, for lack of anybody who
  // could wake it, a supervisor stopped when the launcher is dead already.
  static Blow second_blow(Dice& dice, const Blow& first) {
    Blow second = roll_blow(dice);
    if (first.is(Victim::kLauncher, Kind::kKill)) second.victim = Victim::kRank;
    const bool are_both_killed =
        first.is(Victim::kSupervisor, Kind::kKill) && second.is(Victim::kLauncher, Kind::kKill);
    if (are_both_killed) second.victim = Victim::kRank;
    return second;
  }

  bool kills_launcher() const {
    return std::any_of(blows.begin(), blows.end(),
                       [](const Blow& blow) { return blow.is(Victim::kLauncher, Kind::kKill); });
  }

  std::vector<std::string> arguments() const {
    std::vector<std::string> words = {"--grace", "100ms", "--num_gpus", std::to_string(ranks)};
    if (moment == Moment::kRestarting) words.insert(words.end(), {"--max_restarts", "1"});
    words.push_back(DEEPSCALE_TEST_CHILD);
    words.insert(words.end(), actions.begin(), actions.end());
    return words;
  }

  std::string text() const {
    std::vector<std::string> texts;
    for (const Blow& blow : blows)
      texts.push_back(fmt::format("{} is {}", kVictims[static_cast<int>(blow.victim)],
                                  kBlows[static_cast<int>(blow.kind)]));
    return fmt::format("{} while the job is {}; {} ranks: {}", fmt::join(texts, ", and "),
                       kMoments[static_cast<int>(moment)], ranks, fmt::join(actions, " "));
  }

  Moment moment;
  std::vector<Blow> blows;
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
  struct Target {
    Victim victim;
    pid_t pid;
    std::optional<int> rank;  // it, or the one that it holds, where that is known
  };
  // What the launcher may name as the first cause.
  struct Cause {
    int rank;
    std::string how;  // as in the status of a failure event
  };

  void reach_the_moment();
  Target choose_target(Victim wanted);
  void strike(const Target& target, Kind kind);
  void expect_as_cause(const Target& target);
  bool goes_on(const Target& target, Kind kind);
  void ask_to_stop();
  void check_end(int wait_status);
  bool is_expected(const JsonJob::Json& failure) const;

  Dice dice_;
  const Scenario scenario_;
  JsonJob job_;
  std::vector<Cause> causes_;
  bool was_asked_to_stop_ = false;
  bool was_launcher_killed_ = false;
};

void ChaosRun::run() {
  ASSERT_NO_FATAL_FAILURE(reach_the_moment());
  bool may_go_on = true;
  for (const Blow& blow : scenario_.blows) {
    const Target target = choose_target(blow.victim);
    strike(target, blow.kind);
    may_go_on = goes_on(target, blow.kind) && may_go_on;
    if (scenario_.blows.size() > 1) dice_.pause(10);
  }
  if (may_go_on) ask_to_stop();
  job_.launcher().send(SIGCONT);  // a launcher that was stopped can do nothing before
  const auto status = job_.finish();
  ASSERT_TRUE(status) << "the launcher hangs";
  if (!was_launcher_killed_) check_end(*status);
  EXPECT_TRUE(wait_until([&] { return job_.living_processes() == 0; }))
      << job_.living_processes() << " processes are left";
}

void ChaosRun::reach_the_moment() {
  if (scenario_.moment == Moment::kStarting) {
    const int count = dice_.roll(scenario_.ranks + 1);
    ASSERT_TRUE(job_.wait_for([&] { return job_.ranks_started() >= count; }));
    return dice_.pause(3);
  }
  ASSERT_TRUE(job_.wait_for([&] { return job_.ranks_ready() == scenario_.ranks; }));
  if (scenario_.moment == Moment::kRunning) return;
  if (scenario_.moment == Moment::kPrinting) return dice_.pause(50);  // nobody reads meanwhile
  if (scenario_.moment == Moment::kStopping) {
    ask_to_stop();
  } else {
    const int first = dice_.roll(scenario_.ranks);
    causes_ = {{first, "signalled"}};
    ::kill(job_.pid_of(first).value(), SIGKILL);
    // With a restart, the next generation may have been told of by then.
    ASSERT_TRUE(job_.wait_for([&] { return job_.has_exited(first) || !job_.last("failure").is_null(); }));
  }
  dice_.pause(scenario_.moment == Moment::kRestarting ? 150 : 50);
}

// Whoever the scenario means, where that is there at this moment; else the one above it.
ChaosRun::Target ChaosRun::choose_target(Victim wanted) {
  if (scenario_.moment != Moment::kPrinting) job_.read_events();
  const int rank = dice_.roll(scenario_.ranks);
  const auto pid = job_.pid_of(rank);
  if (wanted == Victim::kRank && pid) return {Victim::kRank, static_cast<pid_t>(*pid), rank};
  const auto supervisors = children_of(job_.launcher().pid());
  const bool may_be_supervisor =
      wanted == Victim::kSupervisor || (wanted == Victim::kRank && !scenario_.kills_launcher());
  if (may_be_supervisor && !supervisors.empty()) {
    const pid_t supervisor = supervisors[static_cast<std::size_t>(rank) % supervisors.size()];
    return {Victim::kSupervisor, supervisor, job_.rank_below(supervisor)};
  }
  return {Victim::kLauncher, job_.launcher().pid(), std::nullopt};
}

void ChaosRun::strike(const Target& target, Kind kind) {
  if (kind == Kind::kKill) {
    if (target.victim == Victim::kLauncher) was_launcher_killed_ = true;
    expect_as_cause(target);
    ::kill(target.pid, SIGKILL);
    return;
  }
  for (int i = kind == Kind::kSlow ? 10 : 1; i > 0; --i) {
    ::kill(target.pid, SIGSTOP);
    dice_.pause(5);
    if (kind == Kind::kSlow) ::kill(target.pid, SIGCONT);
  }
}

void ChaosRun::expect_as_cause(const Target& target) {
  // In a job that fails there is a first cause already.
  if (target.victim == Victim::kLauncher || scenario_.moment == Moment::kFailing) return;
  for (int rank = 0; rank < scenario_.ranks; ++rank) {
    if (target.rank.value_or(rank) != rank) continue;
    if (target.victim == Victim::kRank) {
      causes_.push_back({rank, "signalled"});
    } else {
      causes_.push_back({rank, "lost"});
      if (scenario_.moment == Moment::kStarting || scenario_.moment == Moment::kRestarting)
        causes_.push_back({rank, "spawn failed"});
    }
  }
}

// Whether the job may outlive the blow, and so has to be asked to end.
bool ChaosRun::goes_on(const Target& target, Kind kind) {
  if (kind != Kind::kKill) return true;
  if (target.victim == Victim::kLauncher || scenario_.moment != Moment::kRestarting) return false;
  if (job_.generation() == 1) return false;
  // The blow hit a generation that was failing anyway, or one that had not been told of yet.
  const auto is_finished = [&] { return !job_.last("job_finished").is_null(); };
  const auto is_running = [&] { return job_.generation() == 1 && job_.ranks_ready() == scenario_.ranks; };
  EXPECT_TRUE(job_.wait_for([&] { return is_finished() || is_running(); }));
  return !is_finished();
}

void ChaosRun::ask_to_stop() {
  was_asked_to_stop_ = true;
  job_.launcher().send(SIGTERM);
  job_.launcher().send(SIGCONT);
  if (!dice_.is_one_in(4)) return;
  dice_.pause(20);
  job_.launcher().send(SIGTERM);  // once more: now
}

void ChaosRun::check_end(int wait_status) {
  const JsonJob::Json& end = job_.last("job_finished");
  if (WIFSIGNALED(wait_status)) {  // before it handled signals, or when it had nothing left to do
    EXPECT_EQ(WTERMSIG(wait_status), SIGTERM);
    EXPECT_TRUE(was_asked_to_stop_);
    EXPECT_TRUE(job_.generation() == -1 || !end.is_null());
    return;
  }
  const int exit_code = WEXITSTATUS(wait_status);
  ASSERT_FALSE(end.is_null()) << "exit code " << exit_code;
  EXPECT_EQ(end["exit_code"], exit_code);
  if (end["outcome"] == "stopped") {
    EXPECT_TRUE(was_asked_to_stop_);
    EXPECT_EQ(exit_code, 128 + SIGTERM);
    return;
  }
  EXPECT_EQ(end["outcome"], "failed");
  const JsonJob::Json& failure = job_.last("failure");
  ASSERT_FALSE(failure.is_null());
  EXPECT_EQ(failure["exit_code"], exit_code);
  EXPECT_NE(exit_code, 0);
  EXPECT_TRUE(is_expected(failure)) << "this is not the first cause";
}

bool ChaosRun::is_expected(const JsonJob::Json& failure) const {
  return std::any_of(causes_.begin(), causes_.end(), [&](const Cause& cause) {
    return failure["rank"] == cause.rank && failure["status"]["how"] == cause.how;
  });
}

TEST(LaunchChaos, NothingRemainsNothingHangsAndTheFirstCauseIsRight) {
  for (const std::uint32_t seed : chaos_seeds(25)) {
    ChaosRun chaos(seed);
    chaos.run();
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ": " << chaos.scenario()
                               << "\nreplay with DEEPSCALE_CHAOS_SEED=" << seed << "; the launcher told:\n"
                               << chaos.transcript();
  }
}

// Ranks that notice at once that another one is gone, and end because of it, are no first cause.
TEST(LaunchChaos, ARankThatIsMissedByTheOthersIsTheFirstCause) {
  for (const std::uint32_t seed : chaos_seeds(25)) {
    Dice dice(seed);
    const int ranks = 2 + dice.roll(7);
    JsonJob job({"--num_gpus", std::to_string(ranks), DEEPSCALE_TEST_MEETING_PROGRAM});
    ASSERT_TRUE(job.wait_for([&] { return job.ranks_ready() == ranks; })) << job.transcript();
    dice.pause(5);
    const int victim = dice.roll(ranks);
    ::kill(job.pid_of(victim).value(), SIGKILL);
    ASSERT_TRUE(job.finish()) << "seed " << seed << "\n" << job.transcript();
    EXPECT_EQ(job.transcript().find("\"lost\""), std::string::npos) << "seed " << seed;
    EXPECT_EQ(job.last("failure")["rank"], victim) << "seed " << seed << "\n" << job.transcript();
  }
}

}  // namespace
}  // namespace deepscale::testing
