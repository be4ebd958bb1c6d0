// Where a config comes from: a file, or base64.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/runtime/config_fixture.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using deepscale::testing::TemporaryFolder;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing_config::refusal_of;

TEST(LoadConfig, ReadsUrlSafeBase64WithAndWithoutPadding) {
  // {"train_batch_size": 4} and {"train_batch_size": 40, "_": "~~~???"}: the second has both '-' and '_'.
  EXPECT_EQ(load_config("eyJ0cmFpbl9iYXRjaF9zaXplIjogNH0=", {}).train_batch_size, 4);
  EXPECT_EQ(load_config("eyJ0cmFpbl9iYXRjaF9zaXplIjogNH0", {}).train_batch_size, 4);
  EXPECT_EQ(load_config("eyJ0cmFpbl9iYXRjaF9zaXplIjogNDAsICJfIjogIn5-fj8_PyJ9", {}).train_batch_size, 40);
}

TEST(LoadConfig, NamesBase64InItsErrors) {
  // {"train_batch_size": 0}
  const auto refusal = refusal_of([] { load_config("eyJ0cmFpbl9iYXRjaF9zaXplIjogMH0=", {}); });
  EXPECT_THAT(refusal.message, StartsWith("base64 config: train_batch_size: "));
}

TEST(LoadConfig, SaysThatAFileIsMissing) {
  for (const std::string path : {"no/such/ds_config.json", "ds_config.json", "config", ""}) {
    const auto refusal = refusal_of([&] { load_config(path, {}); });
    EXPECT_EQ(refusal.code, ErrorCode::kNotFound);
    EXPECT_THAT(refusal.message, HasSubstr("no such config file"));
    EXPECT_THAT(refusal.message, HasSubstr(path));
  }
  // Longer than any file system takes, and no base64.
  EXPECT_EQ(refusal_of([] { load_config(std::string(100'000, '*'), {}); }).code, ErrorCode::kNotFound);
}

TEST(LoadConfig, RefusesAFolder) {
  const auto refusal = refusal_of([] { load_config(DEEPSCALE_TEST_DATA, {}); });
  EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal.message, HasSubstr("is a folder"));
}

TEST(LoadConfig, ReadsAPathThatIsNotAscii) {
  const TemporaryFolder folder;
  const auto utf8 = folder.write(u8"größe.json", R"({"train_batch_size": 6})").u8string();
  EXPECT_EQ(load_config({utf8.begin(), utf8.end()}, {}).train_batch_size, 6);
}

TEST(LoadConfig, RefusesBinaryBytesInOneSentence) {
  const TemporaryFolder folder;
  const auto file = folder.write("config.json", std::string_view("\x89PNG\r\n\x1a\n\0\0\0\x7f", 12));
  const auto refusal = refusal_of([&] { load_config(file.string(), {}); });
  EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal.message, HasSubstr("line 1, column 1: malformed JSON"));
}

}  // namespace
}  // namespace deepscale
