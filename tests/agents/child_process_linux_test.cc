// What only Linux has: signals, sessions, file descriptors, and supervisors that someone kills.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "comm/base/error.h"
#include "tests/agents/child_run.h"
#include "tests/agents/marked_process.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using How = ExitStatus::How;
using ::testing::HasSubstr;

ChildProcess::Options shell_options(const std::string& script) {
  return {.program = "sh", .arguments = {"-c", script}, .environment = Environment::of_process()};
}

TEST(ChildProcessLinux, StopSendsTheSignal) {
  ChildRun run(child_options({"out=ready\n", "hang"}));
  ASSERT_TRUE(run.wait_for_output("ready"));
  EXPECT_TRUE(run.process->stop());
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->text(), "killed by signal 15 (SIGTERM), after we stopped it");
}

TEST(ChildProcessLinux, AChildMayAnswerAStopWithItsOwnCode) {
  for (const StopSignal signal : {StopSignal::kTerminate, StopSignal::kInterrupt, StopSignal::kUser1}) {
    ChildRun run(child_options({"exit-at-stop=7", "out=ready\n", "hang"}));
    ASSERT_TRUE(run.wait_for_output("ready"));
    run.process->stop(signal);
    ASSERT_TRUE(run.finish());
    EXPECT_EQ(run.status->text(), "exit code 7, after we stopped it");
  }
}

TEST(ChildProcessLinux, AStopReachesTheWholeGroup) {
  ChildRun run(child_options({"grandchild", "ignore-stop", "out=ready\n", "hang"}));
  const auto grandchild = run.told_pid();
  ASSERT_TRUE(run.wait_for_output("ready"));
  run.process->stop();
  EXPECT_TRUE(wait_until([&] { return !is_alive(grandchild); }));
  EXPECT_TRUE(is_alive(run.process->pid()));
}

TEST(ChildProcessLinux, AKillFromOutsideIsNotOurs) {
  ChildRun run(child_options({"out=ready\n", "hang"}));
  ASSERT_TRUE(run.wait_for_output("ready"));
  ::kill(static_cast<pid_t>(run.process->pid()), SIGKILL);
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->text(), "killed by signal 9 (SIGKILL)");
  EXPECT_EQ(run.status->shell_code(), 137);
}

TEST(ChildProcessLinux, ReportsItsPeakMemory) {
  ChildRun run(
      shell_options("head -c 50000000 /dev/zero | tail | wc -c"));  // tail keeps the one line that this is
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.out, "50000000\n");
  EXPECT_GT(run.status->peak_rss_bytes, 50'000'000U);
  EXPECT_LT(run.status->peak_rss_bytes, 500'000'000U);
}

TEST(ChildProcessLinux, AStoppedChildCanBeStoppedAndKilled) {
  for (const bool by_kill : {false, true}) {
    ChildRun run(child_options({"out=ready\n", "stop-yourself", "hang"}));
    ASSERT_TRUE(run.wait_for_output("ready"));
    by_kill ? run.process->kill() : static_cast<void>(run.process->stop());
    EXPECT_TRUE(run.finish());
  }
}

TEST(ChildProcessLinux, NothingOfItRemainsWhenItsSupervisorIsKilled) {
  const JobMark mark;
  auto options =
      child_options({"ignore-stop", "grandchild", "detached-grandchild", "orphan-grandchild", "hang"});
  options.environment = mark.environment();
  ChildRun neighbour(child_options({"out=ready\n", "hang"}));
  ASSERT_TRUE(neighbour.wait_for_output("ready"));
  ChildRun run(options);
  ASSERT_TRUE(wait_until([&] { return mark.living_processes() == 4; }));
  ::kill(static_cast<pid_t>(parent_of(run.process->pid())), SIGKILL);
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->how, How::kLost);
  EXPECT_THAT(run.status->text(), HasSubstr("supervisor"));
  EXPECT_EQ(mark.living_processes(), 0);
}

TEST(ChildProcessLinux, AGrandchildThatIsEndedDoesNotUndoAPause) {
  auto options = child_options({"out=last words", "orphan-grandchild", "exit=0"});
  options.drain_time = std::chrono::milliseconds(50);
  ChildRun run(std::move(options));
  run.process->pause_output();
  ASSERT_TRUE(run_until(run.io, [&] { return run.ended_calls == 1; }));
  ASSERT_FALSE(run_until(
      run.io, [&] { return run.gone_calls > 0; }, std::chrono::milliseconds(300)));
  EXPECT_EQ(run.out, "");
  run.process->resume_output();
  ASSERT_TRUE(run.finish());
  EXPECT_THAT(run.out, HasSubstr("last words"));
}

TEST(ChildProcessLinux, AStoppedSupervisorDoesNotHoldAKill) {
  ChildRun run(child_options({"out=ready\n", "hang"}));
  ASSERT_TRUE(run.wait_for_output("ready"));
  ::kill(static_cast<pid_t>(parent_of(run.process->pid())), SIGSTOP);
  run.process->kill();
  EXPECT_TRUE(run.finish());
}

// A supervisor that leaves a command of ours unread resets the link, in front of its last report.
TEST(ChildProcessLinux, ARequestThatComesTooLateHidesNoEnd) {
  ChildRun run(child_options({"hang"}));
  const auto supervisors = children_of(::getpid());
  ASSERT_EQ(supervisors.size(), 1U);
  ::kill(supervisors[0], SIGSTOP);
  ::kill(static_cast<pid_t>(run.process->pid()), SIGKILL);
  ASSERT_TRUE(wait_until([&] { return !is_alive(run.process->pid()); }));
  run.process->stop();  // wakes the supervisor
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->text(), "killed by signal 9 (SIGKILL)");
  EXPECT_FALSE(run.status->stopped_by_us);
}

TEST(ChildProcessLinux, LeadsAGroupAndASessionApartFromOurs) {
  ChildRun run(child_options({"out=ready\n", "hang"}));
  const auto pid = static_cast<pid_t>(run.process->pid());
  EXPECT_EQ(::getpgid(pid), pid);
  EXPECT_NE(::getsid(pid), ::getsid(0));
}

TEST(ChildProcessLinux, InheritsNoDescriptorAndNoSignalSetting) {
  const int leaked = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC
  const int high = ::fcntl(leaked, F_DUPFD, 500);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto old_handler = std::signal(SIGPIPE, SIG_IGN);
  ChildRun run(shell_options("echo /proc/$$/fd/*; grep -E 'Sig(Blk|Ign)' /proc/self/status"));
  ASSERT_TRUE(run.finish());
  std::signal(SIGPIPE, old_handler);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::close(leaked);
  ::close(high);
  EXPECT_THAT(run.out, HasSubstr("/fd/3\n")) << "0, 1, 2, and the one that the shell lists the folder with";
  EXPECT_THAT(run.out, HasSubstr("SigBlk:\t0000000000000000"));
  EXPECT_THAT(run.out, HasSubstr("SigIgn:\t0000000000000000"));
}

TEST(ChildProcessLinux, RunsOnTheGivenCores) {
  cpu_set_t allowed;
  ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
  int core = 0;
  while (!CPU_ISSET(core, &allowed)) ++core;
  auto options = shell_options("grep Cpus_allowed_list /proc/self/status");
  options.cpus = {core};
  ChildRun run(std::move(options));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.out, "Cpus_allowed_list:\t" + std::to_string(core) + "\n");
}

TEST(ChildProcessLinux, SaysWhyAFileCannotBeExecuted) {
  const TemporaryFolder folder;
  struct Case {
    const char* name;
    const char* content;
    unsigned mode;
    const char* expected;
  };
  for (const Case& each : {Case{"not-executable", "#!/bin/sh\n", 0644, "chmod +x"},
                           Case{"no-interpreter", "#!/no/such/shell\n", 0755, "interpreter"},
                           Case{"no-program", "some text\n", 0755, "Exec format error"}}) {
    const auto path = folder.write(each.name, each.content);
    ::chmod(path.c_str(), each.mode);
    auto options = child_options({});
    options.program = path.string();
    try {
      ChildRun run(std::move(options));
      ADD_FAILURE() << each.name << " was started";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(each.expected));
      EXPECT_THAT(error.what(), HasSubstr(each.name));
    }
  }
}

TEST(ChildProcessLinux, FindsAProgramInThePathOfItsEnvironment) {
  const auto program = std::filesystem::path(DEEPSCALE_TEST_CHILD);
  auto options = child_options({"exit=6"});
  options.program = program.filename().string();
  options.environment.set("PATH", "/no/such/folder:" + program.parent_path().string());
  ChildRun run(std::move(options));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->code, 6);
}

TEST(ChildProcessLinux, AStrangerWhoHoldsThePipeDoesNotHoldTheEnd) {
  ChildRun run(shell_options("echo told; exec sleep 60"));
  ASSERT_TRUE(run.wait_for_output("told"));
  const std::string pipe = "/proc/" + std::to_string(run.process->pid()) + "/fd/1";
  const int stranger = ::open(pipe.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(stranger, 0);
  run.process->kill();
  EXPECT_TRUE(run.finish());
  ::close(stranger);
}

TEST(ChildProcessLinux, LeavesNoZombieAndNoDescriptor) {
  const auto count_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto children = [] {
    std::ifstream list("/proc/thread-self/children");
    return std::string{std::istreambuf_iterator<char>(list), {}};
  };
  const auto descriptors = count_descriptors();
  const auto before = children();
  for (int i = 0; i < 20; ++i) {
    ChildRun run(child_options({"exit=0"}));
    ASSERT_TRUE(run.finish());
  }
  EXPECT_EQ(count_descriptors(), descriptors);
  EXPECT_EQ(children(), before);
}

}  // namespace
}  // namespace deepscale::testing
