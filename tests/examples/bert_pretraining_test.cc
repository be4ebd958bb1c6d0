// The whole program, as a person starts it: it learns, logs what the announcement shows, and goes on from a
// checkpoint as if it had not been interrupted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/examples/tiny_model.h"
#include "tests/run_program.h"

namespace examples::testing {
namespace {

using deepscale::testing::Outcome;
using deepscale::testing::run_program;
using ::testing::HasSubstr;

std::vector<double> losses(const std::string& output) {
  std::vector<double> found;
  const std::regex line("Loss: ([0-9.]+)");
  for (std::sregex_iterator match(output.begin(), output.end(), line), end; match != end; ++match) {
    found.push_back(std::stod((*match)[1]));
  }
  return found;
}

class BertPretraining : public ::testing::Test {
 protected:
  BertPretraining() {
    std::string text;
    for (int i = 0; i < 200; ++i)
      text += fmt::format("the {} quick brown foxes jump over {} dogs.\n", i % 7, i % 3);
    work_.write("text.txt", text);
    work_.write("tokenizer.json", letter_tokenizer());
  }

  std::string arguments(const std::string& checkpoint_dir, const std::string& more) const {
    const std::string folder = work_.path().string();
    return " --checkpoint_dir '" + folder + "/" + checkpoint_dir + "' --data_path '" + folder +
           "/text.txt' " + "--tokenizer_path '" + folder +
           "' --num_layers 2 --num_heads 2 --h_dim 16 --ff_dim 32 " +
           "--max_seq_length 32 --batch_size 8 --learning_rate 0.01 " + more;
  }
  Outcome alone(const std::string& checkpoint_dir, const std::string& more) const {
    return run_program(BERT_PROGRAM + arguments(checkpoint_dir, more));
  }

  const deepscale::testing::TemporaryFolder work_;
};

TEST_F(BertPretraining, LearnsAndResumesAsIfUninterrupted) {
  const Outcome whole =
      alone("whole", "--num_iterations 60 --output_dir '" + work_.path().string() + "/model'");
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  const std::vector<double> expected = losses(whole.output);
  ASSERT_EQ(expected.size(), 6U) << whole.output;
  EXPECT_LT(expected.back(), 0.9 * expected.front()) << whole.output;
  EXPECT_THAT(whole.output, HasSubstr("step=10, skipped=0, lr=[0.01], mom=[(0.9, 0.999)]"));
  EXPECT_TRUE(std::regex_search(
      whole.output, std::regex("global_step=10, RunningAvgSamplesPerSec=[0-9.]+, CurrSamplesPerSec=[0-9.]+, "
                               "MemAllocated=[0-9.]+GB")))
      << whole.output;
  EXPECT_TRUE(std::filesystem::exists(work_.path() / "model" / "model.safetensors"));

  const Outcome first = alone("parts", "--num_iterations 30");
  ASSERT_EQ(first.exit_code, 0) << first.output;
  const Outcome second = alone("parts", "--num_iterations 60");
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_THAT(second.output, HasSubstr("Resuming from global_step30 at step 30"));
  EXPECT_EQ(losses(second.output), std::vector<double>(expected.begin() + 3, expected.end()))
      << second.output;
}

TEST_F(BertPretraining, RunsOnTwoRanks) {
  const Outcome outcome = run_program(DEEPSCALE_PROGRAM " launch --num_gpus 2 " BERT_PROGRAM +
                                      arguments("ranks", "--num_iterations 30 --stage 3 --dtype bf16"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  ASSERT_EQ(losses(outcome.output).size(), 3U) << outcome.output;
  EXPECT_LT(losses(outcome.output).back(), losses(outcome.output).front());
}

TEST_F(BertPretraining, SaysInOneSentenceWhatIsWrong) {
  Outcome outcome = alone("c", "--data_path nowhere");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(
      outcome.output,
      HasSubstr(
          "bert_pretraining: --data_path: there is no nowhere; examples/bert_pretraining/make_data.py"));
  outcome = alone("c", "--num_heads 3");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("--num_heads must divide --h_dim"));
}

}  // namespace
}  // namespace examples::testing
