// Python ranks under the real deepscale: their stacks when they hang, and deepscale_link.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

#include "tests/launcher/launcher_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class LaunchPython : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("python3 -c 'import faulthandler' 2>/dev/null") != 0) GTEST_SKIP() << "no python3";
  }
  // A script of this text, and what it may touch to show how far it is.
  std::string script(const std::string& text) { return folder_.write("rank.py", text).string(); }

  const TemporaryFolder folder_;
};

TEST_F(LaunchPython, EveryRankShowsItsStackWhenOneHangs) {
  const std::string file = script(R"(import os, time
def waits_for_ever():
    time.sleep(100)
if os.environ["RANK"] == "0":
    import deepscale_link
    deepscale_link.heartbeat(3)
waits_for_ever()
)");
  const auto result = run_launcher({"--num_gpus", "2", "--heartbeat_timeout", "1", file});
  EXPECT_EQ(result.exit_code, 124) << result.error;
  EXPECT_THAT(result.error, AllOf(HasSubstr("[0]   File"), HasSubstr("[1]   File"),
                                  HasSubstr("in waits_for_ever"), HasSubstr("rank 0 of 2: hangs"),
                                  HasSubstr("steps done     3"), Not(HasSubstr("no stack of"))));
}

TEST_F(LaunchPython, ARankThatGoesOnDoesNotHang) {
  const std::string file = script(R"(import time, deepscale_link
for step in range(1, 26):
    time.sleep(0.1)
    deepscale_link.heartbeat(step)
deepscale_link.rest()
time.sleep(2.5)
)");
  const auto result = run_launcher({"--num_gpus", "2", "--heartbeat_timeout", "2", file});
  EXPECT_EQ(result.exit_code, 0) << result.error;
}

TEST_F(LaunchPython, IsAskedToStopAndLeaves) {
  const std::string file = script(R"(import time, deepscale_link
deepscale_link.stop_requested()
deepscale_link.report_failure("none")  # acknowledged, so the agent knows that it asks
deepscale_link.heartbeat(1)
print("trains", flush=True)
while not deepscale_link.stop_requested():
    time.sleep(0.01)
print("saved")
)");
  const auto run = start_launcher({"--num_gpus", "2", "--grace", "60", file});
  for (const char* rank : {"[0] trains", "[1] trains"}) ASSERT_TRUE(run->wait_for_output(rank));
  kill(static_cast<pid_t>(run->process->pid()), SIGTERM);
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->shell_code(), 75) << run->error;
  EXPECT_THAT(run->out, AllOf(HasSubstr("[0] saved"), HasSubstr("[1] saved")));
}

TEST_F(LaunchPython, WhatItReportsIsInTheFailureReport) {
  const std::string file = script(R"(import sys, deepscale_link
assert deepscale_link.report_failure("the device is gone", "cuda")
sys.exit(9)
)");
  const auto result = run_launcher({file});
  EXPECT_EQ(result.exit_code, 9);
  EXPECT_THAT(result.error, HasSubstr("the device is gone"));
}

// A child is no rank, and must not speak for its parent.
TEST_F(LaunchPython, AForkedChildSaysNothing) {
  const std::string file = script(R"(import os, deepscale_link
deepscale_link.heartbeat(1)
child = os.fork()
if child == 0:
    assert not deepscale_link.report_failure("from the child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
)");
  const auto result = run_launcher({file});
  EXPECT_EQ(result.exit_code, 0) << result.error;
}

TEST_F(LaunchPython, WithoutAnAgentNothingHappens) {
  const std::string file = script(R"(import deepscale_link
deepscale_link.heartbeat(1)
assert not deepscale_link.stop_requested() and not deepscale_link.report_failure("nobody hears it")
)");
  const auto result = run_launcher(
      {"--", "env", "-u", "DEEPSCALE_AGENT", "PYTHONPATH=" DEEPSCALE_TEST_PYTHON_FOLDER, "python3", file});
  EXPECT_EQ(result.exit_code, 0) << result.error;
}

TEST_F(LaunchPython, TheUsersOwnStartupFileStillRuns) {
  const std::string file = script("print('the script')\n");
  const auto base = folder_.path() / "base";
  const std::string find = "python3 -c 'import site; print(site.getusersitepackages())'";
  const std::string make =
      "export PYTHONUSERBASE=" + base.string() + "; site=$(" + find +
      ") && mkdir -p $site && echo 'print(\"the startup file\")' > $site/sitecustomize.py";
  ASSERT_EQ(std::system(make.c_str()), 0);
  const auto result = run_launcher({file}, {{"PYTHONUSERBASE", base.string()}});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_THAT(result.out, AllOf(HasSubstr("the startup file"), HasSubstr("the script")));
}

}  // namespace
}  // namespace deepscale::testing
