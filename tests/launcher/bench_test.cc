// The real `deepscale bench comm`: by itself it starts ranks, and under deepscale launch it is one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/launcher/launcher_run.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

void expect_right(const LauncherResult& result, const std::string& backend, std::size_t rows) {
  ASSERT_EQ(result.exit_code, 0) << result.error;
  const auto lines = lines_of(result.out);
  ASSERT_EQ(lines.size(), rows + 1) << result.out;
  EXPECT_EQ(Json::parse(lines[0])["ranks"], 2);
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const Json row = Json::parse(lines[i]);
    EXPECT_EQ(row["backend"], backend);
    EXPECT_EQ(row["plain"]["wrong"], 0);
    EXPECT_EQ(row["shared"]["wrong"], 0);
    EXPECT_GT(row["plain"]["time_us"], 0.0);
  }
}

TEST(Bench, StartsRanksAndChecksEveryOperation) {
  for (const std::string backend : {"shm", "tcp"}) {
    const auto result = run_launcher({"bench", "comm", "--num_gpus", "2", "--backend", backend, "--op", "all",
                                      "--min_bytes", "8", "--max_bytes", "64K", "--factor", "64",
                                      "--iterations", "2", "--dtype", "bf16", "--json"});
    expect_right(result, backend, 6 * 3 + 1);
  }
}

TEST(Bench, IsARankUnderALauncher) {
  const auto result =
      run_launcher({"--num_gpus", "2", "--quiet", "--no_tag_output", DEEPSCALE_TEST_LAUNCHER, "bench", "comm",
                    "--op", "all_reduce", "--max_bytes", "8", "--iterations", "2", "--json"});
  expect_right(result, "shm", 1);
}

TEST(Bench, PrintsATable) {
  const auto result =
      run_launcher({"bench", "comm", "--op", "all_gather", "--max_bytes", "8", "--iterations", "2"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_THAT(result.out, HasSubstr("# backend shm, 2 ranks; memcpy"));
  EXPECT_THAT(result.out, HasSubstr("busbw"));
  EXPECT_THAT(lines_of(result.out).back(), HasSubstr("all_gather"));
}

TEST(Bench, SaysInOneSentenceWhatItLacksForGpus) {
  const auto result = run_launcher({"bench", "comm", "--backend", "nccl"},
                                   {{"DEEPSCALE_NCCL_LIBRARY", "/nowhere/libnccl.so"}});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.error, HasSubstr("the backend nccl is for buffers on GPUs, and "));
  EXPECT_EQ(lines_of(result.error).size(), 1u) << result.error;
  EXPECT_EQ(result.out, "");
}

TEST(Bench, AWrongOptionIsAWrongCommandLine) {
  const auto result = run_launcher({"bench", "comm", "--size", "8"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.error, HasSubstr("does not know --size"));
}

}  // namespace
}  // namespace deepscale::testing
