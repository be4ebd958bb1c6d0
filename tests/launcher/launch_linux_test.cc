// Signals, sudden deaths, permissions and scripts: the real deepscale on Linux.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/agents/marked_process.h"
#include "tests/launcher/launcher_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// A file that goes with the test.
class ScratchFile {
 public:
  ScratchFile(const std::string& name, const std::string& text) : path_(folder_.write(name, text)) {}
  std::string path() const { return path_.string(); }

 private:
  const TemporaryFolder folder_;
  const std::filesystem::path path_;
};

// Whether a write would block. A count of bytes does not tell: the pages of a full pipe may hold gaps.
bool is_full(int write_end) {
  pollfd end = {write_end, POLLOUT, 0};
  return poll(&end, 1, 0) == 0;
}

TEST(LaunchSignals, AKilledRankIsReportedAsSuch) {
  const auto result = run_launcher({"--num_gpus", "3", "{rank}", "1:kill-yourself", "hang"});
  EXPECT_EQ(result.exit_code, 137);
  EXPECT_THAT(result.error, AllOf(HasSubstr("rank 1 of 3: killed by signal 9 (SIGKILL)"),
                                  HasSubstr("killed from outside")));
}

struct SignalCase {
  StopSignal signal;
  int exit_code;
  const char* name;
};

class LaunchStopped : public ::testing::TestWithParam<SignalCase> {};

TEST_P(LaunchStopped, EndsEveryRankAndSaysWhy) {
  const JobMark mark;
  const auto run =
      start_launcher({"--num_gpus", "4", "{rank}", "variable=RANK", "hang"},
                     {{"DEEPSCALE_TEST_JOB", mark.environment().get_or("DEEPSCALE_TEST_JOB", "")}});
  for (const char* rank : {"RANK=0", "RANK=1", "RANK=2", "RANK=3"}) ASSERT_TRUE(run->wait_for_output(rank));
  kill(static_cast<pid_t>(run->process->pid()), GetParam().exit_code - 128);
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->shell_code(), GetParam().exit_code);
  EXPECT_THAT(run->error, HasSubstr(std::string("stopped by ") + GetParam().name));
  EXPECT_EQ(mark.living_processes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Signals, LaunchStopped,
                         ::testing::Values(SignalCase{StopSignal::kInterrupt, 130, "SIGINT"},
                                           SignalCase{StopSignal::kTerminate, 143, "SIGTERM"},
                                           SignalCase{StopSignal::kHangup, 129, "SIGHUP"}),
                         [](const auto& info) { return info.param.name; });

TEST(LaunchSignals, ASecondOneKillsAtOnce) {
  const auto run =
      start_launcher({"--num_gpus", "2", "--grace", "60", "{rank}", "ignore-stop", "variable=RANK", "hang"});
  for (const char* rank : {"RANK=0", "RANK=1"}) ASSERT_TRUE(run->wait_for_output(rank));
  const auto launcher = static_cast<pid_t>(run->process->pid());
  kill(launcher, SIGINT);
  ASSERT_TRUE(run_until(run->io, [&] { return run->error.find("SIGINT: stopping") != std::string::npos; }));
  kill(launcher, SIGINT);
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->shell_code(), 130);
}

TEST(LaunchSignals, StubbornRanksAreKilledWhenTheGraceIsOver) {
  const auto result = run_launcher(
      {"--num_gpus", "4", "--grace", "200ms", "{rank}", "ignore-stop", "0:sleep=200", "0:exit=3", "hang"});
  EXPECT_EQ(result.exit_code, 3);
}

TEST(LaunchSignals, NothingSurvivesAKilledLauncher) {
  const JobMark mark;
  MarkedProcess launcher(
      {DEEPSCALE_TEST_LAUNCHER, "-q", "--num_gpus", "3", DEEPSCALE_TEST_RANK_PROGRAM, "ignore-stop", "hang"},
      mark);
  // The launcher, a supervisor and a rank each.
  ASSERT_TRUE(wait_until([&] { return mark.living_processes() >= 7; }));
  launcher.send(SIGKILL);
  EXPECT_TRUE(launcher.wait());
  EXPECT_TRUE(wait_until([&] { return mark.living_processes() == 0; }))
      << mark.living_processes() << " are left";
}

TEST(LaunchSignals, AReaderThatNeverReadsCannotHoldUpTheEnd) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);  // a launcher with the reading end could not miss its reader
  const JobMark mark;
  const std::string flood = "yes | head -c 100000000";
  MarkedProcess launcher({DEEPSCALE_TEST_LAUNCHER, "-q", "--num_gpus", "2", "--", "sh", "-c", flood}, mark,
                         ends[1]);
  ASSERT_TRUE(wait_until([&] { return is_full(ends[1]); }));
  launcher.send(SIGINT);
  if (!launcher.wait(500ms)) launcher.send(SIGINT);
  const auto status = launcher.wait();
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 130);
  EXPECT_TRUE(wait_until([&] { return mark.living_processes() == 0; }));
  for (const int end : ends) close(end);
}

// All of it fits into our own memory, so the rank is long gone.
TEST(LaunchSignals, AReaderThatNeverReadsCannotOutlastTheTimeout) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const JobMark mark;
  MarkedProcess launcher({DEEPSCALE_TEST_LAUNCHER, "-q", "--num_gpus", "1", "--timeout", "1s", "--", "sh",
                          "-c", "yes | head -c 500000"},
                         mark, ends[1]);
  const auto status = launcher.wait();
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 124);
  for (const int end : ends) close(end);
}

TEST(LaunchSignals, AReaderThatLeavesDoesNotEndTheJob) {
  const ScratchFile proof("reader_left", "");
  const std::string command = std::string(DEEPSCALE_TEST_LAUNCHER) +
                              " -q --num_gpus 1 -- sh -c 'for i in $(seq 20000); do echo line $i; "
                              "done; echo done > " +
                              proof.path() + "' | head -n 1 > /dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0);
  std::ifstream file(proof.path());
  std::string text;
  EXPECT_TRUE(std::getline(file, text) && text == "done");
}

// Progress bars end with '\r', and questions with nothing.
TEST(LaunchPrograms, ABegunLineOfARankAloneIsShownAtOnce) {
  const auto launcher = start_launcher(
      {"--num_gpus", "1", "--", "sh", "-c", "printf '\\r10%%'; printf 'sure?' >&2; sleep 100"});
  EXPECT_TRUE(launcher->wait_for_output("\r10%")) << launcher->out;
  EXPECT_TRUE(run_until(launcher->io, [&] { return launcher->error.find("sure?") != std::string::npos; }));
}

TEST(LaunchPrograms, AFileThatMayNotBeExecutedIs126) {
  const ScratchFile file("not_executable", "#!/bin/sh\n");
  const auto result = run_launcher({file.path()});
  EXPECT_EQ(result.exit_code, 126);
  EXPECT_THAT(result.error, HasSubstr("is not executable"));
  EXPECT_EQ(run_launcher({"/"}).exit_code, 126);
}

TEST(LaunchPrograms, PythonScriptsRunUnderPythonWithTheirLocalRank) {
  if (std::system("python3 -c 0") != 0) GTEST_SKIP() << "no python3 here";
  const ScratchFile script("script.py", "import os, sys\nprint(os.environ['RANK'], sys.argv[1:])\n");
  const auto result = run_launcher({"-q", "--num_gpus", "2", script.path(), "--lr", "0.1"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_THAT(lines_of(result.out), UnorderedElementsAre("[0] 0 ['--local_rank=0', '--lr', '0.1']",
                                                         "[1] 1 ['--local_rank=1', '--lr', '0.1']"));
  const auto without = run_launcher({"-q", "--no_local_rank", script.path(), "x"});
  EXPECT_THAT(lines_of(without.out), UnorderedElementsAre("0 ['x']"));
}

TEST(LaunchPrograms, APythonExceptionIsRecognised) {
  if (std::system("python3 -c 0") != 0) GTEST_SKIP() << "no python3 here";
  const ScratchFile script("raises.py", "raise ValueError('bad data')\n");
  const auto result = run_launcher({script.path()});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.error,
              AllOf(HasSubstr("class          exception"), HasSubstr("| ValueError: bad data")));
}

TEST(LaunchPrograms, ModulesRunAsModules) {
  if (std::system("python3 -c 0") != 0) GTEST_SKIP() << "no python3 here";
  const auto result = run_launcher({"--module", "--no_local_rank", "platform"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_THAT(result.out, HasSubstr("Linux"));
}

TEST(LaunchPrograms, ABoundRankRunsOnItsCoresOnly) {
  const auto result =
      run_launcher({"-q", "--bind_core_list", "0", "--", "grep", "Cpus_allowed_list", "/proc/self/status"});
  if (result.exit_code == 2) GTEST_SKIP() << "core 0 is not ours: " << result.error;
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(lines_of(result.out), UnorderedElementsAre("Cpus_allowed_list:\t0"));
}

// Three descriptors for each rank, and one for each connection to the store, soon pass the usual 1024.
TEST(LaunchPrograms, ALowLimitOfDescriptorsIsForTheRanksOnly) {
  const std::string command = "ulimit -Sn 64; exec " DEEPSCALE_TEST_LAUNCHER
                              " -q --no_tag_output --num_gpus 40 -- sh -c 'ulimit -Sn'";
  const auto run = std::make_unique<ChildRun>(ChildProcess::Options{
      .program = "/bin/sh", .arguments = {"-c", command}, .environment = Environment::of_process()});
  ASSERT_TRUE(run->finish());
  EXPECT_EQ(run->status->code, 0) << run->error;
  EXPECT_THAT(lines_of(run->out), AllOf(SizeIs(40), Each("64")));
}

// Else they start, and then wait for those whose connections the launcher has no descriptors for.
TEST(LaunchPrograms, MoreRanksThanTheLimitOfDescriptorsAllowsAreRefused) {
  for (const auto& [ranks, exit_code] : {std::pair("42", 0), std::pair("43", 2)}) {
    const std::string command =
        std::string("ulimit -n 320; exec " DEEPSCALE_TEST_LAUNCHER " --dry_run --num_gpus ") + ranks +
        " true";
    const auto run = std::make_unique<ChildRun>(ChildProcess::Options{
        .program = "/bin/sh", .arguments = {"-c", command}, .environment = Environment::of_process()});
    ASSERT_TRUE(run->finish());
    EXPECT_EQ(run->status->code, exit_code) << run->error;
    EXPECT_EQ(run->error.find("ulimit -Hn") != std::string::npos, exit_code != 0) << run->error;
  }
}

TEST(LaunchFiles, SavePidNamesTheLauncher) {
  const TemporaryFolder folder;
  const auto run =
      start_launcher({"--save_pid", "{rank}", "out=up", "hang"}, {{"TMPDIR", folder.path().string()}});
  ASSERT_TRUE(run->wait_for_output("up"));
  const auto file = folder.path() / (std::to_string(run->process->pid()) + ".deepscale");
  std::ifstream stream(file);
  std::int64_t pid = 0;
  EXPECT_TRUE(stream >> pid);
  EXPECT_EQ(pid, run->process->pid());
  run->process->stop(StopSignal::kTerminate);
  ASSERT_TRUE(run->finish());
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(LaunchFiles, AHostfileWithAnotherHostIsRefusedAndPlanned) {
  const ScratchFile hosts("hosts", "far-1 slots=2\nfar-2 slots=1\n");
  const auto refused = run_launcher({"--hostfile", hosts.path(), "{rank}"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.error, AllOf(HasSubstr("needs 2 nodes"), HasSubstr("not in this version")));
  const auto planned = run_launcher({"--dry-run", "--hostfile", hosts.path(), "{rank}"});
  EXPECT_THAT(
      planned.out,
      HasSubstr(
          "job: 3 ranks on 2 nodes\n  node 0: far-1, ranks 0-1, GPU 0,1\n  node 1: far-2, rank 2, GPU 0\n"));
}

}  // namespace
}  // namespace deepscale::testing
