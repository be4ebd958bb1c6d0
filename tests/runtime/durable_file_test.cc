// Files that must not be lost: what was written is there whatever the sizes, and a failure leaves the old
// one.
#include "runtime/checkpoint/durable_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kMiB = 1 << 20;

std::string random_text(std::size_t bytes) {
  std::mt19937 random(1);
  std::string text(bytes, '\0');
  for (char& letter : text) letter = static_cast<char>(random());
  return text;
}

// A MiB at a time goes past the system's cache, the rest does not.
TEST(DurableFile, HasWhatWasWrittenInPiecesOfAnySize) {
  const TemporaryFolder folder;
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{5}, kMiB - 1, kMiB, 3 * kMiB, 5 * kMiB + 12345}) {
    for (const std::size_t piece : {std::size_t{777}, kMiB, 2 * kMiB + 1}) {
      const std::string text = random_text(bytes);
      {
        DurableFile file(folder.path() / "file");
        for (std::size_t begin = 0; begin < bytes; begin += piece)
          file.write(text.data() + begin, std::min(piece, bytes - begin));
        file.finish();
      }
      EXPECT_TRUE(read_all(folder.path() / "file") == text) << bytes << " bytes by " << piece;
    }
  }
}

TEST(DurableFile, IsWrittenAnewFromItsBegin) {
  const TemporaryFolder folder;
  for (const std::size_t bytes : {std::size_t{100}, kMiB, 2 * kMiB + 100}) {
    std::string text = random_text(bytes);
    {
      DurableFile file(folder.path() / "file");
      file.write(text.data(), text.size());
      file.rewind();
      file.write("another begin", 13);
      file.finish();
    }
    std::copy_n("another begin", 13, text.begin());
    EXPECT_TRUE(read_all(folder.path() / "file") == text) << bytes;
  }
}

TEST(DurableFile, AFailedReplacementLeavesTheOldFile) {
  const TemporaryFolder folder;
  replace_file(folder.path() / "latest", "first");
  replace_file(folder.path() / "latest", "second");
  EXPECT_EQ(read_all(folder.path() / "latest"), "second");
  std::filesystem::create_directory(folder.path() / "latest.incomplete");
  const Refusal error = refusal_of([&] { replace_file(folder.path() / "latest", "third"); });
  EXPECT_EQ(error.code, ErrorCode::kSystem);
  EXPECT_THAT(error.message, HasSubstr("latest"));
  EXPECT_EQ(read_all(folder.path() / "latest"), "second");
}

}  // namespace
}  // namespace deepscale::testing
