// A job whose disk fails while it trains ends with the file's name, and goes on from its last checkpoint as
// if nothing had been.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <sstream>

#include "tests/run_program.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int kSteps = 8;

class FaultyDisk : public ::testing::TestWithParam<std::string> {
 protected:
  FaultyDisk() {
    fs::create_directory(files());
    const std::string device = fmt::format(R"({{"device": "nvme", "nvme_path": "{}"}})", files().string());
    folder_.write("config.json",
                  fmt::format(R"({{"train_micro_batch_size_per_gpu": 2, "bf16": {{"enabled": true}},
      "optimizer": {{"type": "AdamW", "params": {{"lr": 0.004}}}},
      "zero_optimization": {{"stage": 3, "stage3_param_persistence_threshold": 65,
        "stage3_max_live_parameters": 8192, "stage3_prefetch_bucket_size": 4096, "reduce_bucket_size": 4096,
        "offload_param": {0}, "offload_optimizer": {0}}}}})",
                              device));
  }

  fs::path files() const { return folder_.path() / "files"; }
  Outcome run(const std::string& checkpoints, const std::string& fault = "") const {
    return run_program(fmt::format(DEEPSCALE_PROGRAM " launch --num_gpus 2 " FAULTY_DISK_PROGRAM
                                                     " {0}/config.json {0}/{1} {2} {3}",
                                   folder_.path().string(), checkpoints, kSteps, fault));
  }

 private:
  const TemporaryFolder folder_;
};

std::vector<std::string> losses_in(const std::string& output) {
  std::vector<std::string> losses;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t loss = line.find("loss ");
    if (loss != std::string::npos) losses.push_back(line.substr(loss));
  }
  return losses;
}

TEST_P(FaultyDisk, EndsTheJobWhichGoesOnFromTheLastCheckpoint) {
  const Outcome whole = run("whole");
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  const std::vector<std::string> expected = losses_in(whole.output);
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(kSteps)) << whole.output;

  const std::string file = fmt::format("deepscale_{}.rank_1.", GetParam());
  const auto begin = std::chrono::steady_clock::now();
  const Outcome failed = run("interrupted", file + " 5");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30))
      << "a rank waited for the other";
  EXPECT_EQ(failed.exit_code, 1) << failed.output;
  EXPECT_THAT(failed.output, HasSubstr("of " + (files() / file).string()));
  EXPECT_THAT(failed.output, HasSubstr("go on from the last checkpoint"));
  EXPECT_THAT(losses_in(failed.output), ElementsAreArray(expected.begin(), expected.begin() + 5));
  EXPECT_TRUE(fs::is_empty(files())) << "a file was left behind";

  const Outcome resumed = run("interrupted");
  EXPECT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_THAT(losses_in(resumed.output), ElementsAreArray(expected.begin() + 4, expected.end()));
}

INSTANTIATE_TEST_SUITE_P(Of, FaultyDisk, ::testing::Values("parameters", "optimizer"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace deepscale::testing
