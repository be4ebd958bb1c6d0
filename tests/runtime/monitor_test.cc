// Monitors: the files are what their readers expect, a recorder writes what happened, and one that cannot
// write does not end the run. The communication logger counts each operation once.
#include "runtime/monitor/monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "runtime/monitor/comms_logger.h"
#include "runtime/monitor/step_display.h"
#include "runtime/monitor/step_recorder.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

fs::path only_file_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  EXPECT_EQ(files.size(), 1U);
  return files.at(0);
}

TEST(CsvMonitor, HasAFileForEachNameAndGoesOnWithIt) {
  const TemporaryFolder folder;
  const MonitorConfig config{.enabled = true, .output_path = folder.path().string(), .job_name = "job"};
  make_csv_monitor(config)->write({{"Train/Samples/lr", 0.001, 8}, {"Train/Samples/train_loss", 2.5, 8}});
  make_csv_monitor(config)->write({{"Train/Samples/lr", 0.0005, 16}});
  EXPECT_EQ(read_all(folder.path() / "job" / "Train_Samples_lr.csv"),
            "step,Train_Samples_lr\n8,0.001\n16,0.0005\n");
  EXPECT_EQ(read_all(folder.path() / "job" / "Train_Samples_train_loss.csv"),
            "step,Train_Samples_train_loss\n8,2.5\n");
}

// The bytes that TensorBoard's own writer makes of the same values.
TEST(Tensorboard, WritesItsRecords) {
  using namespace std::string_literals;
  const std::string event = tensorboard_event({"a/b", 1.5, 300}, 2.0);
  EXPECT_EQ(event,
            "\x09\x00\x00\x00\x00\x00\x00\x00\x40"s  // 1: double 2.0
            "\x10\xac\x02"s                          // 2: varint 300
            "\x2a\x0c"s                              // 5: a message of 12 bytes
            "\x0a\x0a"s                              // 1: a message of 10 bytes
            "\x0a\x03"s
            "a/b"s                     // 1: string
            "\x15\x00\x00\xc0\x3f"s);  // 2: float 1.5
  const std::string record = tensorboard_record("123456789");
  ASSERT_EQ(record.size(), 8U + 4 + 9 + 4);
  EXPECT_EQ(record.substr(0, 8), "\x09\0\0\0\0\0\0\0"s);
  EXPECT_EQ(record.substr(12, 9), "123456789");
  // CRC-32C of "123456789" is e3069283; rotated right by 15 and 0xa282ead8 added.
  constexpr std::uint32_t kMasked = ((0xe3069283U >> 15) | (0xe3069283U << 17)) + 0xa282ead8U;
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(static_cast<unsigned char>(record[21 + static_cast<std::size_t>(i)]),
              kMasked >> (8 * i) & 0xff);
}

TEST(Tensorboard, BeginsItsFileWithTheVersion) {
  const TemporaryFolder folder;
  const auto monitor =
      make_tensorboard_monitor({.enabled = true, .output_path = folder.path().string(), .job_name = "job"});
  monitor->write({{"loss", 1.0, 1}});
  monitor->flush();
  const fs::path file = only_file_of(folder.path() / "job");
  EXPECT_EQ(file.filename().string().rfind("events.out.tfevents.", 0), 0U);
  EXPECT_THAT(read_all(file), HasSubstr("brain.Event:2"));
  EXPECT_THAT(read_all(file), HasSubstr("loss"));
}

TEST(StepRecorder, WritesLossLearningRateAndTimesOverSamples) {
  const TemporaryFolder folder;
  Config config;
  config.wall_clock_breakdown = true;
  config.csv_monitor = {.enabled = true, .output_path = folder.path().string(), .job_name = "job"};
  {
    StepRecorder recorder(config, /*is_first_rank=*/true, Logger());
    EXPECT_TRUE(recorder.wants_loss());
    for (int step = 1; step <= 2; ++step) {
      for (const Phase phase : {Phase::kForward, Phase::kBackward, Phase::kStep}) {
        recorder.begin(phase);
        recorder.end(phase);
      }
      recorder.end_of_step({.step = step, .samples = 32 * step, .learning_rate = 0.25, .loss = 4.0 / step});
    }
  }
  const fs::path job = folder.path() / "job";
  EXPECT_EQ(read_all(job / "Train_Samples_train_loss.csv"), "step,Train_Samples_train_loss\n32,4\n64,2\n");
  EXPECT_EQ(read_all(job / "Train_Samples_lr.csv"), "step,Train_Samples_lr\n32,0.25\n64,0.25\n");
  EXPECT_FALSE(fs::exists(job / "Train_Samples_loss_scale.csv")) << "fp16 only";
  for (const char* phase : {"forward", "backward", "step"})
    EXPECT_TRUE(fs::exists(job / (std::string("Train_Samples_elapsed_time_ms_") + phase + ".csv"))) << phase;
}

TEST(StepRecorder, OfAnotherRankWritesNothing) {
  const TemporaryFolder folder;
  Config config;
  config.csv_monitor = {.enabled = true, .output_path = (folder.path() / "out").string()};
  StepRecorder recorder(config, /*is_first_rank=*/false, Logger());
  EXPECT_FALSE(recorder.wants_loss());
  recorder.end_of_step({.step = 1, .samples = 1});
  EXPECT_FALSE(fs::exists(folder.path() / "out"));
}

TEST(StepRecorder, GoesOnWithoutAMonitorThatCannotWrite) {
  const TemporaryFolder folder;
  Config config;
  config.csv_monitor = {.enabled = true, .output_path = folder.path().string(), .job_name = "job"};
  StepRecorder recorder(config, true, Logger());
  fs::remove_all(folder.path() / "job");
  recorder.end_of_step({.step = 1, .samples = 1});
  EXPECT_FALSE(recorder.wants_loss());
  recorder.end_of_step({.step = 2, .samples = 2});
}

TEST(Monitor, ThatCannotMakeItsFolderNamesIt) {
  const TemporaryFolder folder;
  const MonitorConfig config{.enabled = true, .output_path = folder.write("file", "").string()};
  EXPECT_THAT(refusal_of([&] { make_csv_monitor(config); }).message, HasSubstr("file"));
  EXPECT_THAT(refusal_of([&] { make_tensorboard_monitor(config); }).message, HasSubstr("file"));
}

TEST(StepDisplay, WritesItsLineAnewAFewTimesASecondAndWipesIt) {
  using std::chrono::milliseconds;
  std::ostringstream terminal;
  const auto take = [&] { return std::exchange(terminal, {}).str(); };
  {
    StepDisplay display(std::make_shared<StatusLine>(terminal));
    const Clock::time_point start = Clock::now();
    display.show(1, "loss 12.5", start);
    EXPECT_EQ(take(), "\rstep 1, loss 12.5\r");
    display.show(2, "loss 12", start + milliseconds(199));
    EXPECT_EQ(take(), "") << "too soon";
    display.show(5, "", start + milliseconds(500));
    EXPECT_EQ(take(), "\rstep 5, 8 steps/s\r") << "4 steps in half a second, and as long as the line before";
    display.show(7, "", start + milliseconds(200500));
    EXPECT_EQ(take(), "\rstep 7, 0.01 steps/s\r");
    display.show(1, "", start + milliseconds(300500));
    EXPECT_EQ(take(), "\rstep 1              \r") << "a checkpoint of an earlier step was loaded";
  }
  EXPECT_EQ(take(), "\r      \r");
}

TEST(StepDisplay, WritesNothingWhereNoStepEnds) {
  std::ostringstream terminal;
  { const StepDisplay display(std::make_shared<StatusLine>(terminal)); }
  EXPECT_EQ(terminal.str(), "");
}

TEST(CommsLogger, CountsOperationsByMessageSize) {
  const auto record = std::make_shared<CommsRecord>(CommsLoggerConfig{.enabled = true}, Logger());
  const auto communicator = make_recording_communicator(make_single_communicator(), record);
  std::array<float, 8> values{};
  const Buffer buffer{.data = values.data(), .count = 8};
  for (int i = 0; i < 3; ++i) {
    Work work = communicator->all_reduce(buffer, ReduceOp::kSum);
    work.wait();
    work.wait();  // counts once
  }
  communicator->broadcast({.data = values.data(), .count = 2}, 0).wait();
  communicator->barrier().wait();
  ASSERT_EQ(record->totals().size(), 3U);
  EXPECT_EQ(record->totals().at({"all_reduce", 32}).count, 3);
  EXPECT_EQ(record->totals().at({"broadcast", 8}).count, 1);
  EXPECT_EQ(record->totals().at({"barrier", 0}).count, 1);
  EXPECT_THAT(record->table(2), HasSubstr("all_reduce"));
  EXPECT_EQ(communicator->size(), 1);
  EXPECT_STREQ(communicator->backend(), "single");
}

TEST(CommsLogger, RecordsTheOperationsThatItIsAskedFor) {
  const CommsLoggerConfig config{.enabled = true, .prof_all = false, .prof_ops = {"broadcast"}};
  const auto record = std::make_shared<CommsRecord>(config, Logger());
  const auto communicator = make_recording_communicator(make_single_communicator(), record);
  std::array<float, 8> values{};
  communicator->all_reduce({.data = values.data(), .count = 8}, ReduceOp::kSum).wait();
  communicator->broadcast({.data = values.data(), .count = 8}, 0).wait();
  EXPECT_EQ(record->totals().size(), 1U);
  EXPECT_EQ(record->table(1).find("all_reduce"), std::string::npos);
}

}  // namespace
}  // namespace deepscale::testing
