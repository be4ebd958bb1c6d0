// Saving beside training: what is saved is what was there at start(), failures come out with the file's name
// and leave the former checkpoint, and only the last checkpoints stay.
#include "runtime/checkpoint/checkpoint_saver.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <numeric>
#include <set>

#include "runtime/checkpoint/saved_pieces.h"
#include "tests/event.h"
#include "tests/refusal.h"
#include "tests/runtime/saved_versions.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

void save_version(const fs::path& directory, const std::string& tag, std::int64_t version, int keep = 0) {
  CheckpointSaver savers[kSavingRanks];
  for (int rank = 0; rank < kSavingRanks; ++rank) {
    CheckpointPart part = part_of_version(directory, tag, version, rank);
    part.keep_last = keep;
    savers[rank].start(std::move(part));
  }
  for (int rank = kSavingRanks; rank-- > 0;) savers[rank].wait();
}

// A tensor at which the writing stands still until it may go on.
class Gate {
 public:
  TensorToSave tensor() {
    return {.name = "gate",
            .dtype = "U8",
            .shape = {1},
            .data = nullptr,
            .is_shared = false,
            .read = [this](std::int64_t, std::int64_t, void*) {
              is_reached_.happen();
              is_open_.wait();
            }};
  }
  void wait_until_reached() { is_reached_.wait(); }
  void open() { is_open_.happen(); }

 private:
  Event is_reached_, is_open_;
};

TEST(CheckpointSaver, SavesWhatWasThereAtTheStartHoweverFarTheWritingIs) {
  constexpr std::size_t kNumel = 1'000'003;
  std::vector<float> expected(kNumel);
  std::iota(expected.begin(), expected.end(), 0.0F);
  for (std::size_t place = 0; place <= 3; ++place) {
    SCOPED_TRACE(place);
    const TemporaryFolder folder;
    std::vector<std::vector<float>> tensors(3, expected);
    CheckpointPart part{.directory = folder.path(), .tag = "t", .id = 1};
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      part.tensors.push_back({fmt::format("weight{}/master@0", i),
                              "F32",
                              {kNumel},
                              {std::shared_ptr<const void>(), tensors[i].data()}});
    }
    Gate gate;
    part.tensors.insert(part.tensors.begin() + static_cast<std::ptrdiff_t>(place), gate.tensor());
    part.index.emplace();
    part.index->files = {checkpoint_file_name(1, 0)};
    CheckpointSaver saver;
    saver.start(std::move(part));
    gate.wait_until_reached();
    saver.release_tensors();
    for (std::vector<float>& values : tensors) std::fill(values.begin(), values.end(), -1.0F);
    EXPECT_TRUE(saver.is_busy());
    gate.open();
    saver.wait();
    EXPECT_FALSE(saver.is_busy());
    SavedPieces saved(folder.path() / "t", {checkpoint_file_name(1, 0)});
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      std::vector<float> read(kNumel);
      saved.read({fmt::format("weight{}", i), "master", 0, kNumel}, "F32", read.data());
      EXPECT_EQ(read, expected) << i;
    }
  }
}

// State that is in a file: never in memory as a whole, and unchanged until it is written.
TEST(CheckpointSaver, StreamsWhatIsReadFromElsewhere) {
  constexpr std::int64_t kNumel = 1'000'003;
  const TemporaryFolder folder;
  Event may_read;
  std::int64_t next = 0, largest = 0;
  CheckpointPart part{.directory = folder.path(), .tag = "t", .id = 1};
  part.tensors.push_back({.name = "weight/master@0",
                          .dtype = "F32",
                          .shape = {kNumel},
                          .data = nullptr,
                          .read = [&](std::int64_t begin, std::int64_t bytes, void* destination) {
                            may_read.wait();
                            EXPECT_EQ(begin, next);
                            next += bytes;
                            largest = std::max(largest, bytes);
                            std::iota(static_cast<float*>(destination),
                                      static_cast<float*>(destination) + bytes / 4,
                                      static_cast<float>(begin / 4));
                          }});
  part.index.emplace();
  part.index->files = {checkpoint_file_name(1, 0)};
  CheckpointSaver saver;
  saver.start(std::move(part));
  may_read.happen();
  saver.release_tensors();
  EXPECT_EQ(next, kNumel * 4) << "the state may change now";
  saver.wait();
  EXPECT_EQ(largest, 1 << 20);
  std::vector<float> expected(kNumel), read(kNumel);
  std::iota(expected.begin(), expected.end(), 0.0F);
  SavedPieces(folder.path() / "t", {checkpoint_file_name(1, 0)})  // compares checksums
      .read({"weight", "master", 0, kNumel}, "F32", read.data());
  EXPECT_EQ(read, expected);
}

TEST(CheckpointSaver, AFailedReadFailsTheSave) {
  const TemporaryFolder folder;
  CheckpointPart part{.directory = folder.path(), .tag = "t", .id = 1};
  part.tensors.push_back({.name = "weight/master@0",
                          .dtype = "F32",
                          .shape = {4},
                          .data = nullptr,
                          .read = [](std::int64_t, std::int64_t, void*) {
                            throw Error(ErrorCode::kSystem, "cannot read 16 bytes");
                          }});
  part.index.emplace();
  CheckpointSaver saver;
  saver.start(std::move(part));
  saver.release_tensors();
  EXPECT_THAT(refusal_of([&] { saver.wait(); }).message, HasSubstr("cannot read 16 bytes"));
  EXPECT_FALSE(fs::exists(folder.path() / "latest"));
}

TEST(CheckpointSaver, MovesLatestLastAndOnlyWhenAllRanksHaveWritten) {
  const TemporaryFolder folder;
  save_version(folder.path(), "first", 1);
  CheckpointSaver savers[kSavingRanks];
  for (const int rank : {0, 1}) savers[rank].start(part_of_version(folder.path(), "second", 2, rank));
  savers[1].wait();
  savers[0].wait_for_write();
  EXPECT_TRUE(savers[0].is_busy()) << "rank 2 has not written";
  EXPECT_EQ(latest_version(folder.path()), 1);
  savers[2].start(part_of_version(folder.path(), "second", 2, 2));
  savers[0].wait();
  EXPECT_EQ(latest_version(folder.path()), 2);
}

TEST(CheckpointSaver, ARankThatCannotWriteFailsTheSaveAndLeavesTheFormer) {
  const TemporaryFolder folder;
  save_version(folder.path(), "t", 1);
  // A folder where rank 1's file belongs.
  const fs::path obstacle = folder.path() / "t" / (checkpoint_file_name(2, 1) + ".incomplete");
  fs::create_directory(obstacle);
  CheckpointSaver savers[kSavingRanks];
  for (int rank = 0; rank < kSavingRanks; ++rank)
    savers[rank].start(part_of_version(folder.path(), "t", 2, rank));
  const Refusal own = refusal_of([&] { savers[1].wait(); });
  EXPECT_EQ(own.code, ErrorCode::kSystem);
  EXPECT_THAT(own.message, HasSubstr(obstacle.string()));
  EXPECT_THAT(refusal_of([&] { savers[0].wait(); }).message, HasSubstr(obstacle.filename().string()));
  savers[2].wait();
  savers[1].wait();  // a failure is told once
  EXPECT_EQ(latest_version(folder.path()), 1);
  fs::remove_all(obstacle);
  save_version(folder.path(), "t", 3);
  EXPECT_EQ(latest_version(folder.path()), 3);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path() / "t"), fs::directory_iterator()), 4)
      << "three files and the index; nothing of earlier saves";
}

TEST(CheckpointSaver, GivesUpOnRanksThatDoNotCome) {
  const TemporaryFolder folder;
  CheckpointSaver saver;
  CheckpointPart part = part_of_version(folder.path(), "t", 1, 0);
  part.patience = std::chrono::milliseconds(20);
  saver.start(std::move(part));
  const Refusal late = refusal_of([&] { saver.wait(); });
  EXPECT_EQ(late.code, ErrorCode::kTimeout);
  EXPECT_THAT(late.message, HasSubstr(checkpoint_file_name(1, 1)));
  saver.start(part_of_version(folder.path(), "t", 2, 0));
  saver.give_up("rank 1 could not write");
  EXPECT_THAT(refusal_of([&] { saver.wait(); }).message, HasSubstr("rank 1 could not write"));
  EXPECT_FALSE(fs::exists(folder.path() / "latest"));
}

TEST(CheckpointSaver, KeepsTheLastCheckpoints) {
  const TemporaryFolder folder;
  folder.write("notes.txt", "not a checkpoint");
  for (int version = 1; version <= 5; ++version)
    save_version(folder.path(), fmt::format("v{}", version), version, 2);
  EXPECT_EQ(latest_version(folder.path()), 5);
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    left.insert(entry.path().filename().string());
  EXPECT_EQ(left, (std::set<std::string>{"latest", "notes.txt", "v4", "v5"}));
}

}  // namespace
}  // namespace deepscale::testing
