#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "examples/zero_inference/options.h"
#include "tests/refusal.h"

namespace zero_inference {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::optional<Options> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "zero_inference");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

TEST(ZeroInferenceOptions, TakeTheAnnouncementsCommand) {
  const Options options = *parse({"--model", "meta-llama/Llama-2-7b-hf", "--batch-size", "64", "--prompt-len",
                                  "8", "--gen-len", "32", "--cpu-offload"});
  EXPECT_EQ(options.model, "meta-llama/Llama-2-7b-hf");
  EXPECT_EQ(options.batch_size, 64);
  EXPECT_EQ(options.prompt_length, 8);
  EXPECT_EQ(options.generated_length, 32);
  EXPECT_TRUE(options.offloads_to_cpu);
  EXPECT_EQ(options.quant_bits, 16);
}

TEST(ZeroInferenceOptions, ReadEveryOther) {
  const Options options = *parse({"--model=m",
                                  "--dummy",
                                  "--disk-offload",
                                  "--offload-dir",
                                  "d",
                                  "--kv-offload",
                                  "--async-kv-offload",
                                  "--quant-bits",
                                  "4",
                                  "--group-size",
                                  "32",
                                  "--pin-memory",
                                  "1",
                                  "--device",
                                  "cuda",
                                  "--loops",
                                  "2",
                                  "--threads",
                                  "3",
                                  "--do-sample",
                                  "--temperature",
                                  "0.5",
                                  "--top-k",
                                  "9",
                                  "--top-p",
                                  "0.25",
                                  "--seed",
                                  "7",
                                  "--profile",
                                  "--trace",
                                  "t.json",
                                  "--local_rank=1",
                                  "--prompt",
                                  "one, and more",
                                  "--prompt",
                                  "two"});
  EXPECT_TRUE(options.is_dummy && options.offloads_to_disk && options.offloads_cache && options.samples &&
              options.profiles);
  EXPECT_EQ(options.offload_folder, "d");
  EXPECT_EQ(options.quant_bits, 4);
  EXPECT_EQ(options.group_size, 32);
  EXPECT_TRUE(options.pins_memory);
  EXPECT_EQ(options.device, "cuda");
  EXPECT_EQ(options.loops, 2);
  EXPECT_EQ(options.threads, 3);
  EXPECT_EQ(options.temperature, 0.5);
  EXPECT_EQ(options.top_k, 9);
  EXPECT_EQ(options.top_p, 0.25);
  EXPECT_EQ(options.seed, 7u);
  EXPECT_EQ(options.trace, "t.json");
  EXPECT_THAT(options.prompts, ElementsAre("one, and more", "two"));
  EXPECT_EQ(options.batch_size, 2) << "as many as there are prompts";
}

TEST(ZeroInferenceOptions, RefuseMistakesInOneSentence) {
  const auto message = [](const std::vector<const char*>& arguments) {
    return deepscale::testing::refusal_of([&] { parse(arguments); }).message;
  };
  EXPECT_THAT(message({}), HasSubstr("--model is missing: folder of a Hugging Face model"));
  EXPECT_THAT(message({"--model", "m", "--quant-bits", "5"}),
              HasSubstr("--quant-bits: expected 16, 8 or 4, got \"5\""));
  EXPECT_THAT(message({"--model", "m", "--batch-size", "none"}),
              HasSubstr("--batch-size: expected a whole number"));
  EXPECT_THAT(message({"--model", "m", "--top-p", "x"}), HasSubstr("--top-p: expected a number"));
  EXPECT_THAT(message({"--model", "m", "--cpu-offload", "--disk-offload"}), HasSubstr("exclude each other"));
  EXPECT_THAT(message({"--model", "m", "--device", "gpu"}),
              HasSubstr("--device: expected auto, cpu or cuda"));
  EXPECT_THAT(message({"--model", "m", "--genlen", "4"}), HasSubstr("--gen-len"));
}

}  // namespace
}  // namespace zero_inference
