#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "comm/base/error.h"
#include "comm/store/rendezvous.h"
#include "comm/store/store_server.h"
#include "tests/comm/job_ranks.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// Other tests have the same parent process, so each case has a temporary directory of its own.
class StoreRendezvous : public ::testing::Test {
 protected:
  StoreRendezvous() {
    if (const char* before = ::getenv("TMPDIR")) before_ = before;
    ::setenv("TMPDIR", directory_.c_str(), 1);
  }
  ~StoreRendezvous() override {
    before_.empty() ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", before_.c_str(), 1);
  }

  const testing::TemporaryFolder folder_;
  const std::filesystem::path directory_ = folder_.path();
  std::string before_;
};

TEST_F(StoreRendezvous, RanksOfOneParentMeetAndLeaveNoFile) {
  for (int round = 0; round < 5; ++round) {
    run_job_ranks({.world_size = 4}, [&](const WorldLayout&, Store& store) {
      EXPECT_TRUE(std::filesystem::is_empty(directory_));
      store_barrier(store, "here", 4, Deadline::after(30s));
    });
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(StoreRendezvous, AFileThatAnEarlierJobLeftIsReplaced) {
  int nobody = 0;
  { nobody = HostedStoreServer(StoreServerOptions{}).port(); }
  publish_port(rendezvous_file(StartedBy::kEnvironment), nobody);
  run_job_ranks({.world_size = 2}, [](const WorldLayout&, Store& store) { store.set("k", "v"); });
}

TEST_F(StoreRendezvous, NamesTheFileThatNobodyWrote) {
  try {
    join_job_store({.rank = 1, .world_size = 2}, Logger(), Deadline::after(20ms));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTimeout);
    EXPECT_THAT(error.what(), HasSubstr(rendezvous_file(StartedBy::kEnvironment).string()));
    EXPECT_THAT(error.what(), HasSubstr("MASTER_ADDR"));
  }
}

TEST_F(StoreRendezvous, AJobThatFailsToMeetLeavesNoFile) {
  EXPECT_THROW(join_job_store({.rank = 0, .world_size = 2}, Logger(), Deadline::after(20ms)), Error);
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(StoreRendezvous, TheFileIsNamedAfterUserAndParent) {
  const std::string name = rendezvous_file(StartedBy::kEnvironment).filename().string();
  EXPECT_THAT(name, HasSubstr("-" + std::to_string(::geteuid()) + "-" + std::to_string(::getppid()) + "-"));
  EXPECT_EQ(rendezvous_file(StartedBy::kEnvironment), directory_ / name);
}

TEST_F(StoreRendezvous, APortIsReadAsItWasPublished) {
  const auto file = rendezvous_file(StartedBy::kEnvironment);
  EXPECT_EQ(published_port(file), std::nullopt);
  publish_port(file, 1);
  publish_port(file, 65535);
  EXPECT_EQ(published_port(file), 65535);
  for (const char* text : {"", "x\n", "123", "12 \n", "-\n", "0\n", "70000\n", "1111111111111111111111\n"}) {
    std::ofstream(file, std::ios::trunc) << text;
    EXPECT_THROW(published_port(file), Error) << text;
  }
}

TEST_F(StoreRendezvous, ALinkIsNotFollowed) {
  publish_port(directory_ / "other", 80);
  std::filesystem::create_symlink(directory_ / "other", rendezvous_file(StartedBy::kEnvironment));
  EXPECT_THROW(published_port(rendezvous_file(StartedBy::kEnvironment)), Error);
}

TEST_F(StoreRendezvous, ADirectoryThatIsGoneIsTold) {
  try {
    publish_port(directory_ / "missing" / "file", 80);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr("No such file"));
  }
}

}  // namespace
}  // namespace deepscale
