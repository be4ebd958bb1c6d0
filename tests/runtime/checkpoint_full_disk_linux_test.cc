// A disk that is full, and one that may not be written to, leave the former checkpoint and say which file it
// was. Needs the right to mount a file system.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/refusal.h"
#include "tests/runtime/saved_versions.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

// A small file system in memory, for two versions and half of a third, which goes with the object.
class SmallDisk {
 public:
  SmallDisk() : is_mounted_(mount(0)) {}
  ~SmallDisk() {
    if (is_mounted_) ::umount(folder_.path().c_str());
  }
  bool is_mounted() const { return is_mounted_; }
  bool make_read_only() const { return mount(MS_REMOUNT | MS_RDONLY); }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  bool mount(unsigned long flags) const {
    const std::string size = "size=" + std::to_string(kSavingRanks * kMany * 4 * 5 / 2);
    return ::mount("none", folder_.path().c_str(), "tmpfs", flags, size.c_str()) == 0;
  }

  const TemporaryFolder folder_;
  const bool is_mounted_;
};

std::vector<Refusal> failures_of_saving(const std::filesystem::path& directory, std::int64_t version) {
  CheckpointSaver savers[kSavingRanks];
  for (int rank = 0; rank < kSavingRanks; ++rank)
    save_and_go_on(savers[rank],
                   part_of_version(directory, fmt::format("v{}", version), version, rank, kMany));
  for (int rank = 0; rank < kSavingRanks; ++rank) {
    try {
      savers[rank].wait_for_write();
    } catch (const Error& error) {
      savers[0].give_up("a rank failed");
      std::vector<Refusal> failures = {{error.code(), error.what()}};
      for (CheckpointSaver& saver : savers) {
        try {
          saver.wait();
        } catch (const Error& another) {
          failures.push_back({another.code(), another.what()});
        }
      }
      return failures;
    }
  }
  savers[0].wait();
  return {};
}

TEST(CheckpointOnAFullDisk, LeavesTheFormerOne) {
  const SmallDisk disk;
  if (!disk.is_mounted()) GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
  ASSERT_TRUE(failures_of_saving(disk.path(), 1).empty());
  ASSERT_TRUE(failures_of_saving(disk.path(), 2).empty());
  const std::vector<Refusal> failures = failures_of_saving(disk.path(), 3);
  // Rank 0 may have had room, and hear of the others before anybody asks it.
  const auto own = std::find_if(failures.begin(), failures.end(),
                                [](const Refusal& each) { return each.code == ErrorCode::kSystem; });
  ASSERT_NE(own, failures.end());
  EXPECT_THAT(own->message, HasSubstr(disk.path().string()));
  EXPECT_THAT(own->message, HasSubstr("No space left on device"));
  EXPECT_EQ(latest_version(disk.path()), 2);
  std::filesystem::remove_all(disk.path() / "v3");
  std::filesystem::remove_all(disk.path() / "v1");
  EXPECT_TRUE(failures_of_saving(disk.path(), 4).empty()) << "there is room again";
  EXPECT_EQ(latest_version(disk.path()), 4);
}

TEST(CheckpointOnAReadOnlyDisk, SaysSo) {
  const SmallDisk disk;
  if (!disk.is_mounted()) GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
  ASSERT_TRUE(failures_of_saving(disk.path(), 1).empty());
  ASSERT_TRUE(disk.make_read_only());
  const std::vector<Refusal> failures = failures_of_saving(disk.path(), 2);
  ASSERT_FALSE(failures.empty());
  EXPECT_THAT(failures[0].message, HasSubstr("Read-only file system"));
  EXPECT_THAT(failures[0].message, HasSubstr(disk.path().string()));
  EXPECT_EQ(latest_version(disk.path()), 1);
}

}  // namespace
}  // namespace deepscale::testing
