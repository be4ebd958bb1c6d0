// The whole program on a tiny model. ZERO_INFERENCE_PROGRAM and DEEPSCALE_PROGRAM are paths, GOLDEN_MODELS
// the folder of the models, which have no tokenizer: prompts are random tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/run_program.h"
#include "tests/temporary_folder.h"

namespace {

using deepscale::testing::Outcome;
using deepscale::testing::run_program;
using ::testing::HasSubstr;

constexpr const char* kSmall = " --batch-size 4 --prompt-len 6 --gen-len 5 --loops 1 ";

// A shape whose columns are groups of 64.
constexpr const char* kQuantisable =
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 96, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32})";

std::string model(const std::string& name) {
  return std::string(" --model ") + GOLDEN_MODELS "/" + name;
}

Outcome generate(const std::string& arguments) {
  return run_program(ZERO_INFERENCE_PROGRAM + arguments);
}

// The lines before the summary: prompts and what was generated.
std::string texts_of(const Outcome& outcome) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  return outcome.output.substr(0, outcome.output.find("----------"));
}

TEST(ZeroInference, GeneratesTheSameFromMemoryAndFromFiles) {
  for (const char* name : {"llama", "mistral", "phi3", "opt"}) {
    const std::string in_memory = texts_of(generate(model(name) + kSmall));
    EXPECT_EQ(texts_of(generate(model(name) + kSmall + "--disk-offload")), in_memory);
    EXPECT_EQ(texts_of(generate(model(name) + kSmall + "--cpu-offload --kv-offload --threads 2")), in_memory);
  }
}

TEST(ZeroInference, RanksSplitThePromptsAndTheFirstTellsTheSameTexts) {
  const std::string alone = texts_of(generate(model("llama") + kSmall));
  const std::string split =
      texts_of(run_program(DEEPSCALE_PROGRAM " launch --no_tag_output --num_gpus 2 " ZERO_INFERENCE_PROGRAM +
                           model("llama") + kSmall));
  ASSERT_FALSE(split.empty());
  // Rank 0 has the first two of the four prompts, and shows them.
  EXPECT_THAT(split, HasSubstr(alone.substr(0, alone.find("2: "))));
}

TEST(ZeroInference, RanksShareQuantisedLayersAndLeaveNoFileOfThem) {
  const deepscale::testing::TemporaryFolder folder;
  folder.write("config.json", kQuantisable);
  const auto offload = folder.path() / "offload";
  const std::string arguments = " --model " + folder.path().string() + kSmall +
                                "--dummy --quant-bits 8 --offload-dir " + offload.string();
  const std::string alone = texts_of(generate(arguments));
  for (const char* more : {"", " --disk-offload"}) {
    const std::string split = texts_of(run_program(
        DEEPSCALE_PROGRAM " launch --no_tag_output --num_gpus 2 " ZERO_INFERENCE_PROGRAM + arguments + more));
    EXPECT_THAT(split, HasSubstr(alone.substr(0, alone.find("2: "))));
    EXPECT_TRUE(std::filesystem::is_empty(offload));
  }
}

TEST(ZeroInference, TellsTheSummaryOfRunModel) {
  const Outcome outcome = generate(model("llama") + kSmall + "--profile");
  for (const char* part :
       {"model size: ", "cache size: ", "hidden size (p): ", "peak memory: ", "prefill latency: ",
        "prefill throughput: ", "decode latency: ", "decode throughput: ", "total latency: ",
        "total throughput: ", "compute ms", "GB/s of reading them only"})
    EXPECT_THAT(outcome.output, HasSubstr(part));
}

TEST(ZeroInference, DummyWeightsAndQuantisedLayersLeaveNothingBehind) {
  const deepscale::testing::TemporaryFolder folder;
  folder.write("config.json", kQuantisable);
  const auto offload = folder.path() / "offload";
  const auto trace = folder.path() / "trace.json";
  const Outcome outcome = generate(" --model " + folder.path().string() + kSmall +
                                   "--dummy --disk-offload --quant-bits 4 --offload-dir " + offload.string() +
                                   " --trace " + trace.string());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(std::filesystem::exists(trace));
  EXPECT_TRUE(std::filesystem::is_empty(offload));
}

TEST(ZeroInference, MistakesAreOneSentence) {
  const deepscale::testing::TemporaryFolder folder;
  const auto refusal = [&](const std::string& arguments) {
    const Outcome outcome = generate(arguments);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
    EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 1) << outcome.output;
    return outcome.output;
  };
  EXPECT_THAT(refusal(" --model " + folder.path().string()), HasSubstr("config.json"));
  EXPECT_THAT(refusal(model("bert") + kSmall), HasSubstr("BERT"));
  EXPECT_THAT(refusal(model("llama") + " --prompt-len 60 --gen-len 10"), HasSubstr("positions"));
  EXPECT_THAT(refusal(model("llama") + " --prompt hello"), HasSubstr("tokenizer.json"));
  EXPECT_THAT(refusal(model("llama") + kSmall + "--quant-bits 8"), HasSubstr("group size"));
  EXPECT_THAT(refusal(model("llama") + kSmall + "--device cuda"), HasSubstr("leave the option out"))
      << "no GPU is here";
}

}  // namespace
