#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "examples/cifar10/options.h"

namespace cifar10 {
namespace {

using deepscale::DType;
using testing::HasSubstr;

std::optional<Options> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "cifar10");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

std::string refusal_of(const std::vector<const char*>& arguments) {
  try {
    parse(arguments);
  } catch (const deepscale::Error& error) {
    EXPECT_EQ(error.code(), deepscale::ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Cifar10Options, LeaveTheConfigurationAloneByDefault) {
  const Options options = *parse({});
  EXPECT_EQ(options.data_dir, "data/digits");
  EXPECT_EQ(options.config_path, "");
  EXPECT_FALSE(options.dtype || options.stage || options.batch_size);
}

TEST(Cifar10Options, ReadsEveryOption) {
  const Options options =
      *parse({"--deepscale", "--deepscale_config=c.json", "--data_dir", "images", "--dtype", "bf16",
              "--stage", "2", "--batch_size", "4", "--epochs=3", "--steps_limit", "7", "--log_interval", "5",
              "--seed", "9223372036854775807", "--local_rank=1"});
  EXPECT_EQ(options.config_path, "c.json");
  EXPECT_EQ(options.data_dir, "images");
  EXPECT_EQ(options.dtype, DType::kBFloat16);
  EXPECT_EQ(options.stage, 2);
  EXPECT_EQ(options.batch_size, 4);
  EXPECT_EQ(options.epochs, 3);
  EXPECT_EQ(options.steps_limit, 7);
  EXPECT_EQ(options.log_interval, 5);
  EXPECT_EQ(options.seed, 9223372036854775807U);
}

TEST(Cifar10Options, TakesDeepSpeedsNames) {
  EXPECT_EQ(parse({"--deepspeed", "--deepspeed_config", "c.json"})->config_path, "c.json");
}

TEST(Cifar10Options, RefusesADtypeThatOneCannotTrainIn) {
  EXPECT_THAT(refusal_of({"--dtype", "fp8"}), HasSubstr("--dtype: expected fp32, bf16 or fp16, got \"fp8\""));
  EXPECT_THAT(refusal_of({"--dtype", "int32"}), HasSubstr("got \"int32\""));
}

TEST(Cifar10Options, RefusesNumbersOutOfRange) {
  EXPECT_THAT(refusal_of({"--stage", "4"}),
              HasSubstr("--stage: expected a whole number from 0 to 3, got \"4\""));
  EXPECT_THAT(refusal_of({"--stage=-1"}), HasSubstr("got \"-1\""));
  EXPECT_THAT(refusal_of({"--epochs", "0"}), HasSubstr("--epochs"));
  EXPECT_THAT(refusal_of({"--epochs", "2x"}), HasSubstr("got \"2x\""));
  EXPECT_THAT(refusal_of({"--batch_size", "0"}), HasSubstr("--batch_size"));
  EXPECT_THAT(refusal_of({"--log_interval", "0"}), HasSubstr("--log_interval"));
  EXPECT_THAT(refusal_of({"--seed", "-1"}), HasSubstr("--seed"));
}

TEST(Cifar10Options, SaysWhatWasMeantByAnUnknownOption) {
  EXPECT_THAT(refusal_of({"--stagge", "1"}), HasSubstr("no option \"--stagge\". Did you mean \"--stage\"?"));
  EXPECT_THAT(refusal_of({"--data-dir=x"}), HasSubstr("Did you mean \"--data_dir\"?"));
  EXPECT_THAT(refusal_of({"--frobnicate"}), HasSubstr("cifar10 --help lists"));
  EXPECT_THAT(refusal_of({"stray"}), HasSubstr("\"stray\""));
}

TEST(Cifar10Options, RefusesAnOptionWithoutItsValue) {
  EXPECT_THAT(refusal_of({"--epochs"}), HasSubstr("epochs"));
}

TEST(Cifar10Options, PrintsHelp) {
  testing::internal::CaptureStdout();
  EXPECT_FALSE(parse({"--epochs", "2", "-h"}));
  const std::string help = testing::internal::GetCapturedStdout();
  EXPECT_THAT(help, HasSubstr("--deepscale_config"));
  EXPECT_THAT(help, HasSubstr("data/digits"));
}

}  // namespace
}  // namespace cifar10
