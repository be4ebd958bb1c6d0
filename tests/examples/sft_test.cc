// The whole program, as a person starts it, with the announcement's options; and what it says about mistakes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <regex>

#include "tests/examples/tiny_model.h"
#include "tests/run_program.h"

namespace examples::testing {
namespace {

using deepscale::testing::Outcome;
using deepscale::testing::run_program;
using ::testing::HasSubstr;
using ::testing::Not;

// Each "ppl" that was printed, one that is not a number too.
std::vector<double> perplexities(const std::string& output) {
  std::vector<double> found;
  const std::regex line("ppl: ([^ ,]+), loss");
  for (std::sregex_iterator match(output.begin(), output.end(), line), end; match != end; ++match) {
    found.push_back(std::stod((*match)[1]));
  }
  return found;
}

class Sft : public ::testing::Test {
 protected:
  Sft() {
    std::string lines;
    for (int i = 0; i < 40; ++i) {
      lines += fmt::format("{{\"prompt\": \"what is {} + {}? \", \"response\": \"it is {}{}.\"}}\n", i % 5,
                           i % 4, i % 5 + i % 4, std::string(static_cast<std::size_t>(i % 5 * 4), '!'));
    }
    work_.write("data.jsonl", lines);
  }

  std::string arguments(const std::string& more) const {
    return " --model_name_or_path '" + model_.path() + "' --data_path '" +
           (work_.path() / "data.jsonl").string() + "' --learning_rate 0.02 --max_seq_len 48 " + more;
  }
  Outcome alone(const std::string& more) const { return run_program(SFT_PROGRAM + arguments(more)); }
  Outcome on_two_ranks(const std::string& more) const {
    return run_program(DEEPSCALE_PROGRAM " launch --num_gpus 2 " SFT_PROGRAM + arguments(more));
  }
  void expect_refusal(const std::string& more, const std::string& message) const {
    const Outcome outcome = alone(more);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(message));
    EXPECT_THAT(outcome.output, Not(HasSubstr("what()")));
  }

  const TinyModel model_{DEEPSCALE_GOLDEN_MODELS "/llama"};
  const deepscale::testing::TemporaryFolder work_;
};

TEST_F(Sft, TakesTheAnnouncementsOptionsAndLearns) {
  const auto output = work_.path() / "output";
  const Outcome outcome = alone(
      "--gradient_accumulation_steps 2 --lora_dim 8 --only_optimize_lora --print_loss --zero_stage 2 "
      "--deepscale --dtype bf16 --offload --num_train_epochs 6 --per_device_train_batch_size 4 "
      "--output_dir '" +
      output.string() + "'");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  const std::vector<double> found = perplexities(outcome.output);
  ASSERT_EQ(found.size(), 7U) << outcome.output;
  EXPECT_LT(found.back(), 0.5 * found.front()) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("***** Evaluating perplexity, Epoch 0/6 *****"));
  EXPECT_THAT(outcome.output, HasSubstr("Epoch: 0, Step: 0, Rank: 0, loss = "));
  EXPECT_TRUE(std::regex_search(
      outcome.output,
      std::regex("Model Parameters: 0\\.000 B, Latency: [0-9.]+s, TFLOPs: [0-9.]+, Samples/sec: [0-9.]+, "
                 "Time/seq [0-9.]+s, Batch Size: 4, Sequence Length: [0-9]+")))
      << outcome.output;
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json",
                           "adapter/adapter_config.json", "adapter/adapter_model.safetensors"}) {
    EXPECT_TRUE(std::filesystem::exists(output / name)) << name;
  }
}

TEST_F(Sft, LearnsBesideABaseOfFourBits) {
  const Outcome outcome = on_two_ranks(
      "--lora_dim 8 --only_optimize_lora --quant_bits 4 --group_size 8 --zero_stage 3 --offload "
      "--num_train_epochs 6 "
      "--per_device_train_batch_size 4");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const std::vector<double> found = perplexities(outcome.output);
  ASSERT_EQ(found.size(), 7U) << outcome.output;
  EXPECT_LT(found.back(), 0.5 * found.front()) << outcome.output;
}

// The samples of a step are the same, and its loss is the mean over their tokens, which differ in number.
TEST_F(Sft, ALossCurveDoesNotDependOnRanksMicroStepsAndStages) {
  const std::string common = "--lora_dim 4 --num_train_epochs 3 --eval_path '" +
                             (work_.path() / "data.jsonl").string() + "' --per_device_train_batch_size ";
  const Outcome whole = alone(common + "8");
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  const std::vector<double> expected = perplexities(whole.output);
  ASSERT_EQ(expected.size(), 4U) << whole.output;
  EXPECT_LT(expected.back(), 0.5 * expected.front());
  const auto expect_the_same = [&](const Outcome& outcome) {
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    const std::vector<double> found = perplexities(outcome.output);
    ASSERT_EQ(found.size(), expected.size()) << outcome.output;
    for (std::size_t epoch = 0; epoch < found.size(); ++epoch)
      EXPECT_NEAR(found[epoch], expected[epoch], 2e-3 * expected[epoch]) << outcome.output;
  };
  expect_the_same(alone(common + "2 --gradient_accumulation_steps 4"));
  expect_the_same(on_two_ranks(common + "4 --zero_stage 2 --offload"));
  expect_the_same(on_two_ranks(common + "2 --gradient_accumulation_steps 2 --zero_stage 3"));
}

TEST_F(Sft, SaysInOneSentenceWhatIsWrong) {
  expect_refusal("--data_path nowhere.jsonl", "sft: cannot read nowhere.jsonl: no such file");
  expect_refusal("--max_seq_len 400", "sft: --max_seq_len 400 is more than the 64 positions of");
  expect_refusal("--max_seq_len 6", "data.jsonl:1: the prompt has 15 tokens, and a sample 6 at most");
  expect_refusal("--lora_rank 3", "there is no option \"--lora_rank\"");
  expect_refusal("--lora_dim 2 --quant_bits 8", "--quant_bits needs --only_optimize_lora");
  expect_refusal("--only_optimize_lora", "--only_optimize_lora needs --lora_dim");
  expect_refusal("--lora_dim 2 --lora_module_name decoder.layers.",
                 "no linear layer has one of the given names");
  work_.write("data.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n{\"prompt\": 3}\n");
  expect_refusal("", "data.jsonl:2: no text \"prompt\" in it");
}

TEST_F(Sft, SaysWhatIsWrongWithTheModel) {
  model_.folder.write("tokenizer.json", R"({"model": {"type": "Unigram"}})");
  expect_refusal("", "model: no part 'Unigram' in this tokenizer; there are BPE, WordPiece");
  model_.folder.write("tokenizer.json", letter_tokenizer());
  std::filesystem::resize_file(model_.folder.path() / "model.safetensors", 7000);
  expect_refusal("", "the file is damaged or no safetensors file");
  const TinyModel bert{DEEPSCALE_GOLDEN_MODELS "/bert"};
  const Outcome outcome = run_program(SFT_PROGRAM " --model_name_or_path '" + bert.path() +
                                      "' --data_path data.jsonl --max_seq_len 48");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("BERT does not predict the next token"));
}

}  // namespace
}  // namespace examples::testing
