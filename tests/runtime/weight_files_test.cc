// The weights of a folder: one file or several with an index, and an index that does not fit is refused.
#include "runtime/pretrained/weight_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "comm/base/error.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Refusal;
using testing::refusal_of;
using testing::TemporaryFolder;

const float kFirst = 1.5F;
const float kSecond = -2.0F;

void write_shards(const TemporaryFolder& folder) {
  write_safetensors(folder.path() / "model-00001-of-00002.safetensors", {{"a", "F32", {1}, &kFirst}});
  write_safetensors(folder.path() / "model-00002-of-00002.safetensors", {{"b", "F32", {1, 1}, &kSecond}});
}

Refusal refusal_of_index(const TemporaryFolder& folder, const char* index) {
  folder.write("model.safetensors.index.json", index);
  return refusal_of([&] { WeightFiles files(folder.path()); });
}

TEST(WeightFiles, FindsATensorInAnyShard) {
  const TemporaryFolder folder;
  write_shards(folder);
  folder.write("model.safetensors.index.json", R"({"metadata": {}, "weight_map":
      {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  const WeightFiles files(folder.path());
  EXPECT_THAT(files.names(), ElementsAre("a", "b"));
  EXPECT_EQ(files.bytes(), 8);
  const WeightView view = files.view("b");
  EXPECT_THAT(view.shape, ElementsAre(1, 1));
  EXPECT_EQ(std::memcmp(view.data, &kSecond, sizeof kSecond), 0);
  EXPECT_EQ(refusal_of([&] { files.view("c"); }).code, ErrorCode::kNotFound);
}

TEST(WeightFiles, AViewOutlivesTheFiles) {
  const TemporaryFolder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"a", "F32", {1}, &kFirst}});
  const WeightView view = WeightFiles(folder.path()).view("a");
  EXPECT_EQ(std::memcmp(view.data, &kFirst, sizeof kFirst), 0);
}

TEST(WeightFiles, AnIndexThatDoesNotFitIsRefused) {
  const TemporaryFolder folder;
  write_shards(folder);
  EXPECT_EQ(refusal_of_index(folder, "{").code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal_of_index(folder, "{}").message, HasSubstr("no \"weight_map\""));
  EXPECT_THAT(refusal_of_index(folder, R"({"weight_map": {"a": "../secret.safetensors"}})").message,
              HasSubstr("\"../secret.safetensors\" is not the name of a file beside it"));
  EXPECT_THAT(refusal_of_index(folder, R"({"weight_map": {"a": 7}})").message, HasSubstr("is not the name"));
  EXPECT_EQ(refusal_of_index(folder, R"({"weight_map": {"a": "missing.safetensors"}})").code,
            ErrorCode::kNotFound);
  EXPECT_THAT(
      refusal_of_index(folder, R"({"weight_map": {"c": "model-00001-of-00002.safetensors"}})").message,
      HasSubstr("tensor 'c' is not in model-00001"));
}

TEST(WeightFiles, AFolderWithoutWeightsSaysWhatItLacks) {
  const TemporaryFolder folder;
  EXPECT_THAT(refusal_of([&] { WeightFiles files(folder.path()); }).message,
              HasSubstr("has neither model.safetensors nor"));
  EXPECT_THAT(refusal_of([&] { WeightFiles files(folder.path() / "none"); }).message,
              HasSubstr("is no folder"));
}

}  // namespace
}  // namespace deepscale
