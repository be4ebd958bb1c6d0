// What the launcher does where it may make a cgroup, and what it tells where the kernel kills for lack of
// memory. Skipped where nobody may do such things.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "launcher/run/failure_report.h"
#include "tests/launcher/json_job.h"
#include "tests/launcher/launcher_run.h"

namespace deepscale::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;

// The folder of a job's cgroup, as its rank 0 names it; the job has ended. Empty: the launcher could make
// none.
fs::path cgroup_of_a_job() {
  const auto result = run_launcher({"-q", "--num_gpus", "1", "--", "grep", "^0::", "/proc/self/cgroup"});
  if (result.out.find("/deepscale-") == std::string::npos) return {};
  const auto name = result.out.find("0::/") + 4;
  const fs::path hybrid = "/sys/fs/cgroup/unified";  // beside version 1
  return (fs::exists(hybrid) ? hybrid : "/sys/fs/cgroup") /
         fs::path(result.out.substr(name, result.out.find('\n') - name));
}

// A folder of the cgroup tree with a limit of memory, in version 1 or 2.
class LimitedCgroup {
 public:
  explicit LimitedCgroup(std::int64_t bytes) {
    const std::string name = fmt::format("limited-{}", ::getpid());
    for (const auto& [root, limit] : {std::pair("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                                      std::pair("/sys/fs/cgroup", "memory.max")}) {
      std::error_code failure;
      const fs::path folder = fs::path(root) / name;
      if (!fs::create_directory(folder, failure)) continue;
      folder_ = folder;
      std::ofstream file(folder / limit);
      if (fs::exists(folder / limit) && file << bytes && file.flush()) return;
      fs::remove(folder, failure);
      folder_.clear();
    }
  }
  ~LimitedCgroup() {
    if (folder_.empty()) return;
    EXPECT_TRUE(wait_until([&] { return ::rmdir(folder_.c_str()) == 0; }));
  }
  LimitedCgroup(const LimitedCgroup&) = delete;
  LimitedCgroup& operator=(const LimitedCgroup&) = delete;

  bool exists() const { return !folder_.empty(); }
  std::string members() const { return (folder_ / "cgroup.procs").string(); }

 private:
  fs::path folder_;
};

TEST(LaunchCgroup, HoldsTheRanksAndGoesWithTheJob) {
  const fs::path cgroup = cgroup_of_a_job();
  if (cgroup.empty()) GTEST_SKIP() << "no cgroup may be made here";
  EXPECT_FALSE(fs::exists(cgroup)) << cgroup;
}

TEST(LaunchCgroup, WhatKilledLaunchersLeftInsideEachOtherGoes) {
  const fs::path cgroup = cgroup_of_a_job();
  if (cgroup.empty()) GTEST_SKIP() << "no cgroup may be made here";
  const fs::path left = cgroup.parent_path().parent_path() / cgroup.filename();  // beside that of this test
  ASSERT_TRUE(fs::create_directories(left / left.filename()));
  cgroup_of_a_job();
  EXPECT_FALSE(fs::exists(left)) << left;
}

// The supervisor of rank 0 is gone and the launcher too, so nobody is left above what rank 0 started.
TEST(LaunchCgroup, NothingSurvivesALauncherAndASupervisorThatAreKilledTogether) {
  if (cgroup_of_a_job().empty()) GTEST_SKIP() << "no cgroup may be made here";
  for (int run = 0; run < 20; ++run) {  // the supervisors race with the kernel's exit of the launcher
    JsonJob job({"--num_gpus", "3", DEEPSCALE_TEST_CHILD, "detached-grandchild", "orphan-grandchild",
                 "ignore-stop", "out=ready\n", "hang"});
    ASSERT_TRUE(job.wait_for([&] { return job.ranks_ready() == 3; })) << job.transcript();
    job.launcher().send(SIGSTOP);  // or it would find the orphans
    ::kill(children_of(job.launcher().pid()).front(), SIGKILL);
    job.launcher().send(SIGKILL);
    ASSERT_TRUE(job.finish());
    ASSERT_TRUE(wait_until([&] { return job.living_processes() == 0; }))
        << job.living_processes() << " processes are left";
  }
}

// Runs a job of two ranks in the cgroup; rank 1 does what `script` says.
std::unique_ptr<ChildRun> run_limited(const LimitedCgroup& limited, const std::string& script) {
  ChildProcess::Options options{.program = "/bin/sh", .environment = Environment::of_process()};
  options.environment.set("SCRIPT", script);
  options.arguments = {"-c",
                       fmt::format("echo $$ > {} && exec {} -q --num_gpus 2 -- sh -c 'if [ $RANK = 1 ]; then "
                                   "eval \"$SCRIPT\"; fi; exec sleep 60'",
                                   limited.members(), DEEPSCALE_TEST_LAUNCHER)};
  auto run = std::make_unique<ChildRun>(std::move(options));
  EXPECT_TRUE(run->finish(150s));
  return run;
}

constexpr const char* kTooMuch = "python3 -c 'x = bytearray(300 << 20)'";

TEST(LaunchCgroup, AKillForLackOfMemoryIsToldAsThat) {
  if (std::system("python3 -c 0") != 0) GTEST_SKIP() << "no python3 here";
  const LimitedCgroup limited(64 << 20);
  if (!limited.exists()) GTEST_SKIP() << "no cgroup with a limit of memory may be made here";
  const auto run = run_limited(limited, std::string("exec ") + kTooMuch);
  ASSERT_TRUE(run->status);
  EXPECT_EQ(run->status->code, 137) << run->error;
  EXPECT_THAT(run->error, AllOf(HasSubstr("rank 1 of 2: killed by signal 9 (SIGKILL)"),
                                HasSubstr("out of memory"), HasSubstr("because memory ran out")));
}

// A container's processes have other numbers in it.
bool may_read_kernel_log() {
  std::error_code failure;
  return std::ifstream("/dev/kmsg").is_open() &&
         fs::read_symlink("/proc/self/ns/pid", failure) == "pid:[4026531836]";
}

// The kernel killed something of the job, but not this rank.
TEST(LaunchCgroup, AKillFromOutsideIsNotTakenForLackOfMemory) {
  if (std::system("python3 -c 0") != 0) GTEST_SKIP() << "no python3 here";
  const LimitedCgroup limited(64 << 20);
  if (!limited.exists()) GTEST_SKIP() << "no cgroup with a limit of memory may be made here";
  if (!may_read_kernel_log()) GTEST_SKIP() << "the kernel's log may not be read here";
  const auto run = run_limited(limited, std::string(kTooMuch) + "; kill -9 $$");
  ASSERT_TRUE(run->status);
  EXPECT_EQ(run->status->code, 137) << run->error;
  EXPECT_THAT(run->error, HasSubstr("killed from outside"));
}

}  // namespace
}  // namespace deepscale::testing
