// Signals, stopped processes and Python, for ranks that use their link: the real deepscale on Linux.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/agents/marked_process.h"
#include "tests/launcher/launcher_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Two ranks that train until they are asked to stop, and the launcher's answer to a signal.
std::unique_ptr<ChildRun> start_training(const std::vector<std::string>& actions, const char* grace = "60") {
  std::vector<std::string> words = {"--num_gpus",  "2", "--grace", grace, DEEPSCALE_TEST_LINK_PROGRAM,
                                    "steps=100000"};
  words.insert(words.end(), actions.begin(), actions.end());
  auto run = start_launcher(words);
  for (const char* rank : {"[0] trains", "[1] trains"}) EXPECT_TRUE(run->wait_for_output(rank));
  return run;
}

void send(const ChildRun& run, int signal) {
  kill(static_cast<pid_t>(run.process->pid()), signal);
}

class LaunchPreempted : public ::testing::TestWithParam<int> {};

TEST_P(LaunchPreempted, RanksSaveAndLeaveAndTheExitCodeTells) {
  const auto run = start_training({});
  send(*run, GetParam());
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->shell_code(), 75) << run->error;
  EXPECT_THAT(run->out, AllOf(HasSubstr("[0] saved after"), HasSubstr("[1] saved after")));
  EXPECT_THAT(run->error, HasSubstr("every rank left with 0"));
}

INSTANTIATE_TEST_SUITE_P(Signals, LaunchPreempted, ::testing::Values(SIGTERM, SIGUSR1));

TEST(LaunchPreempted, CtrlCKeepsItsExitCode) {
  const auto run = start_training({});
  send(*run, SIGINT);
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->shell_code(), 130);
  EXPECT_THAT(run->out, AllOf(HasSubstr("[0] saved after"), HasSubstr("[1] saved after")));
}

TEST(LaunchPreempted, ARankThatDoesNotLeaveIsKilledAfterTheGrace) {
  const auto run = start_training({"1:hang@20"}, "500ms");
  ASSERT_TRUE(run->wait_for_output("[1] hangs"));
  send(*run, SIGTERM);
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->shell_code(), 143);
}

TEST(LaunchPreempted, ASecondSignalMeansNow) {
  const auto run = start_training({"0:hang@20", "1:hang@20"});
  for (const char* rank : {"[0] hangs", "[1] hangs"}) ASSERT_TRUE(run->wait_for_output(rank));
  send(*run, SIGTERM);
  ASSERT_TRUE(run_until(run->io, [&] { return run->error.find("SIGTERM: stopping") != std::string::npos; }));
  send(*run, SIGTERM);
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->shell_code(), 143);
}

TEST(LaunchHang, AStoppedRankIsToBlame) {
  const TemporaryFolder folder;
  const auto result =
      run_launcher({"--num_gpus", "2", "--heartbeat_timeout", "2", DEEPSCALE_TEST_LINK_PROGRAM,
                    "meet=" + folder.path().string(), "steps=100000", "1:stop@200", "0:hang@150"});
  EXPECT_EQ(result.exit_code, 124);
  EXPECT_THAT(result.error,
              AllOf(HasSubstr("rank 1 of 2: hangs"), HasSubstr("its process is stopped (SIGSTOP)"),
                    HasSubstr("[1] deepscale: stack of thread")));
}

TEST(LaunchHang, PythonShowsItsStackWhereFaulthandlerIsRegistered) {
  if (std::system("python3 -c 'import faulthandler' 2>/dev/null") != 0) GTEST_SKIP() << "no python3";
  const TemporaryFolder folder;
  const std::string script = R"(if [ $RANK = 0 ]; then exec "$0" "meet=$1" steps=100000 hang@3; fi
exec python3 "$2" "$1")";
  const std::string python = R"(import faulthandler, signal, sys, time
faulthandler.register(signal.SIGQUIT, all_threads=True)
def waits_for_ever():
    open(sys.argv[1] + "/1", "w").close()
    time.sleep(100)
waits_for_ever()
)";
  const auto file = folder.write("rank.py", python);
  const auto result =
      run_launcher({"--num_gpus", "2", "--heartbeat_timeout", "500ms", "--", "sh", "-c", script,
                    DEEPSCALE_TEST_LINK_PROGRAM, folder.path().string(), file.string()});
  EXPECT_EQ(result.exit_code, 124) << result.error;
  EXPECT_THAT(result.error, AllOf(HasSubstr("line 5 in waits_for_ever"), HasSubstr("rank 0 of 2: hangs"),
                                  Not(HasSubstr("no stack of"))));
}

// It must not die of the request for its stack.
TEST(LaunchHang, SaysWhichRankShowsNoStack) {
  const TemporaryFolder folder;
  const std::string script = R"(if [ $RANK = 0 ]; then exec "$0" "meet=$1" steps=100000 hang@3; fi
touch "$1/1"; exec sleep 100)";
  const auto result = run_launcher({"--num_gpus", "2", "--heartbeat_timeout", "500ms", "--", "sh", "-c",
                                    script, DEEPSCALE_TEST_LINK_PROGRAM, folder.path().string()});
  EXPECT_EQ(result.exit_code, 124) << result.error;
  EXPECT_THAT(result.error, AllOf(HasSubstr("no stack of rank 1"), HasSubstr("stopped for it rank 1")));
}

// Whoever claims to be of another generation has no place in the job.
TEST(LaunchLink, AStaleRankCannotJoin) {
  const auto result = run_launcher(
      {"--", "sh", "-c", "DEEPSCALE_GENERATION=7 exec \"$0\" steps=3", DEEPSCALE_TEST_LINK_PROGRAM});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.error, HasSubstr("it is of generation 7, and the job is at generation 0"));
}

TEST(LaunchLink, NothingSurvivesAKilledLauncher) {
  const JobMark mark;
  MarkedProcess launcher({DEEPSCALE_TEST_LAUNCHER, "-q", "--num_gpus", "3", "--heartbeat_timeout", "60",
                          DEEPSCALE_TEST_LINK_PROGRAM, "steps=100000", "1:spin@5", "2:stop@5"},
                         mark);
  ASSERT_TRUE(wait_until([&] { return mark.living_processes() >= 7; }));  // with a supervisor for each rank
  launcher.send(SIGKILL);
  EXPECT_TRUE(launcher.wait());
  EXPECT_TRUE(wait_until([&] { return mark.living_processes() == 0; }))
      << mark.living_processes() << " are left";
}

}  // namespace
}  // namespace deepscale::testing
