// The whole program, as a person starts it. DEEPSCALE_PROGRAM and CIFAR10_PROGRAM are paths, DIGITS_FOLDER is
// where
// ./build.sh puts the handwritten digits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <regex>

#include "tests/examples/image_folder.h"
#include "tests/run_program.h"

namespace cifar10 {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using deepscale::testing::Outcome;
using deepscale::testing::run_program;

Outcome run_alone(const std::string& arguments) {
  return run_program(CIFAR10_PROGRAM " " + arguments);
}

Outcome run_on_two_ranks(const std::string& arguments) {
  return run_program(DEEPSCALE_PROGRAM " launch --num_gpus 2 " CIFAR10_PROGRAM " --deepscale " + arguments);
}

// Of the test images, in percent; -1 when it was not told.
int accuracy_in(const std::string& output) {
  std::smatch match;
  const std::regex line("Accuracy of the network on the [0-9]+ test images: ([0-9]+) %");
  return std::regex_search(output, match, line) ? std::stoi(match[1]) : -1;
}

class Cifar10 : public testing::Test {
 protected:
  void SetUp() override {
    folder_.write("data_batch_1.bin", striped_images(400, 1));
    folder_.write("test_batch.bin", striped_images(101, 2));
  }
  std::string data() const { return "--data_dir '" + folder_.path().string() + "' "; }

  ImageFolder folder_;
};

TEST_F(Cifar10, LearnsOnOneRankWithoutALauncher) {
  const Outcome outcome = run_alone(data() + "--epochs 6 --log_interval 10");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_GE(accuracy_in(outcome.output), 90) << outcome.output;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("[1,    10] loss: "), HasSubstr("on the 101 test images"),
                                    HasSubstr("Accuracy of plane : "), HasSubstr("Accuracy of truck : ")));
}

// fp16 starts at a loss scale of 2^15.
TEST_F(Cifar10, LearnsOnTwoRanksInEveryDtypeAndStage) {
  for (const std::string choice :
       {"--dtype fp32 --stage 0", "--dtype bf16 --stage 1", "--dtype fp16 --stage 2"}) {
    const Outcome outcome = run_on_two_ranks(data() + "--epochs 8 " + choice);
    EXPECT_EQ(outcome.exit_code, 0) << choice << "\n" << outcome.output;
    EXPECT_GE(accuracy_in(outcome.output), 90) << choice << "\n" << outcome.output;
    EXPECT_EQ(outcome.output.find("loss scale: 32768") != std::string::npos,
              choice.find("fp16") != std::string::npos)
        << outcome.output;
  }
}

TEST_F(Cifar10, LetsOptionsWinOverTheConfiguration) {
  folder_.write("ds_config.json",
                R"({"train_batch_size": 8, "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
                                      "fp16": {"enabled": true}, "zero_optimization": {"stage": 1}})");
  const std::string config = "--deepscale_config '" + (folder_.path() / "ds_config.json").string() + "' ";
  EXPECT_THAT(run_alone(data() + config + "--steps_limit 1").output,
              HasSubstr("fp16, ZeRO stage 1, 8 images a step"));
  EXPECT_THAT(run_alone(data() + config + "--steps_limit 1 --dtype bf16 --stage 2 --batch_size 5").output,
              HasSubstr("bf16, ZeRO stage 2, 5 images a step"));
}

TEST_F(Cifar10, TakesTheSameStepsWhenTheImagesDoNotDivide) {
  folder_.write("data_batch_1.bin", striped_images(33, 1));
  folder_.write("test_batch.bin", striped_images(1, 2));
  const Outcome outcome = run_on_two_ranks(data() + "--epochs 1");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("[1,     2] loss: "), HasSubstr("on the 1 test images"),
                                    HasSubstr("Accuracy of   car : no test images")));
}

struct BadInput {
  const char* name;
  const char* arguments;
  const char* message;
  // ctest names the test by this.
  friend void PrintTo(const BadInput& input, std::ostream* out) { *out << input.name; }
};

class Cifar10Refuses : public testing::TestWithParam<BadInput> {};

// One sentence, the exit code 1, no stack.
TEST_P(Cifar10Refuses, InOneSentence) {
  const ImageFolder folder;
  folder.write("malformed.json", "{\"fp16\": ");
  folder.write("data_batch_1.bin", "not an image");
  const Outcome outcome =
      run_program("env -C '" + folder.path().string() + "' " CIFAR10_PROGRAM " " + GetParam().arguments);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, AllOf(testing::StartsWith("cifar10: "), HasSubstr(GetParam().message)));
  EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 1) << outcome.output;
  EXPECT_THAT(outcome.output, Not(testing::ContainsRegex("frame #|terminate|what\\(\\)")));
}

INSTANTIATE_TEST_SUITE_P(
    , Cifar10Refuses,
    testing::Values(BadInput{"NoDataSet", "", "no data set in \"data/digits\""},
                    BadInput{"MissingFolder", "--data_dir absent", "no data set in \"absent\""},
                    BadInput{"WrongFile", "--data_dir .", "data_batch_1.bin: its size is 12 bytes"},
                    BadInput{"WrongDtype", "--dtype fp8", "expected fp32, bf16 or fp16"},
                    BadInput{"StageOutOfRange", "--stage 4", "from 0 to 3"},
                    BadInput{"MissingConfig", "--deepscale_config absent.json", "absent.json"},
                    BadInput{"MalformedConfig", "--deepscale_config malformed.json", "malformed.json"},
                    BadInput{"UnknownOption", "--stagge 1", "Did you mean \"--stage\"?"}),
    [](const auto& info) { return info.param.name; });

// What ./build.sh demo promises.
TEST(Cifar10OnDigits, ReachesNinetyFivePercentAndChangesItsLossScale) {
  if (!std::filesystem::exists(DIGITS_FOLDER "/batches.meta.txt")) {
    GTEST_SKIP() << "no handwritten digits in " DIGITS_FOLDER "; ./build.sh demo prepares them";
  }
  const Outcome outcome = run_on_two_ranks("--data_dir '" DIGITS_FOLDER "' --stage 2 --dtype fp16");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_GT(accuracy_in(outcome.output), 95) << outcome.output;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("loss scale: 32768"), HasSubstr("loss scale: 65536"),
                                    HasSubstr("on the 360 test images"), HasSubstr("Accuracy of seven : ")));
}

}  // namespace
}  // namespace cifar10
