// config.json: both spellings of transformers 4 and 5, defaults of each family, and what is refused by which
// key.
#include "runtime/pretrained/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "tests/refusal.h"

namespace deepscale {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Refusal;
using testing::refusal_of;

// A Llama of head size 64 with these members more.
std::string llama(const std::string& more) {
  return R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 256, "intermediate_size": 512,
             "num_hidden_layers": 2, "num_attention_heads": 4)" +
         more + "}";
}

ModelConfig parse(const std::string& text) {
  return parse_model_config(text, "config.json");
}

Refusal refusal(const std::string& text) {
  return refusal_of([&] { parse(text); });
}

TEST(ModelConfig, FillsInWhatAFamilyLeavesOut) {
  const ModelConfig config = parse(llama(""));
  EXPECT_EQ(config.key_value_heads, 4);
  EXPECT_EQ(config.head_size, 64);
  EXPECT_EQ(config.max_positions, 2048);
  EXPECT_FALSE(config.ties_embeddings);
  EXPECT_EQ(config.begin_token, -1);
  const ModelConfig gpt2 = parse(R"({"model_type": "gpt2", "vocab_size": 50257, "n_inner": null})");
  EXPECT_EQ(gpt2.intermediate_size, 4 * 768);
  EXPECT_TRUE(gpt2.ties_embeddings);
}

TEST(ModelConfig, BothSpellingsOfRotaryScalingAreTheSame) {
  const ModelConfig old = parse(llama(R"(, "rope_theta": 500000.0, "eos_token_id": [1, 2],
      "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": 8192})"));
  const ModelConfig now = parse(llama(R"(, "eos_token_id": 2,
      "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"));
  EXPECT_EQ(rope_frequencies(old, 10).radians_per_position, rope_frequencies(now, 10).radians_per_position);
  EXPECT_THAT(old.end_tokens, ElementsAre(1, 2));
  EXPECT_THAT(now.end_tokens, ElementsAre(2));
}

TEST(ModelConfig, Llama3SlowsLongWavesAndKeepsShortOnes) {
  const std::string scaled =
      R"(, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})";
  const auto plain = rope_frequencies(parse(llama(R"(, "rope_theta": 500000.0)")), 10).radians_per_position;
  const auto slowed = rope_frequencies(parse(llama(scaled)), 10).radians_per_position;
  ASSERT_EQ(slowed.size(), 32U);
  EXPECT_EQ(slowed.front(), plain.front());
  EXPECT_FLOAT_EQ(slowed.back(), plain.back() / 8.0F);
}

TEST(ModelConfig, WhatWouldChangeTheResultIsRefusedByItsKey) {
  EXPECT_THAT(refusal(R"({"vocab_size": 3})").message, HasSubstr("\"model_type\": no architecture ''"));
  EXPECT_EQ(refusal(llama(R"(, "hidden_act": "xielu")")).code, ErrorCode::kUnsupported);
  EXPECT_THAT(refusal(llama(R"(, "hidden_act": "xielu")")).message, HasSubstr("config.json: \"hidden_act\""));
  EXPECT_THAT(refusal(llama(R"(, "rope_scaling": {"type": "yarn", "factor": 2.0})")).message,
              HasSubstr("no rotary scaling 'yarn' here"));
  EXPECT_THAT(refusal(llama(R"(, "num_key_value_heads": 3)")).message, HasSubstr("3 do not divide 4"));
}

TEST(ModelConfig, WrongValuesAreRefusedByTheirKey) {
  EXPECT_EQ(refusal("").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal("[]").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal(std::string(100'000, '[')).code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal(R"({"model_type": "llama"})").message, HasSubstr("\"vocab_size\": missing"));
  EXPECT_THAT(refusal(llama(R"(, "num_key_value_heads": 0)")).message, HasSubstr("at least 1, got 0"));
  EXPECT_THAT(refusal(llama(R"(, "head_dim": 1e99)")).message, HasSubstr("expected a whole number"));
  EXPECT_THAT(refusal(llama(R"(, "head_dim": 18446744073709551615)")).message, HasSubstr("head_dim"));
  EXPECT_THAT(refusal(llama(R"(, "head_dim": 3)")).message, HasSubstr("odd"));
  EXPECT_THAT(refusal(llama(R"(, "tie_word_embeddings": "yes")")).message, HasSubstr("true or false"));
  EXPECT_THAT(refusal(llama(R"(, "rope_theta": "x")")).message,
              HasSubstr("\"rope_theta\": expected a number"));
}

}  // namespace
}  // namespace deepscale
