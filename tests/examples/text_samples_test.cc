// What the examples make of text: samples for BERT and their masks, prompts and responses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "comm/base/error.h"
#include "examples/bert_pretraining/text_data.h"
#include "examples/sft/instruction_data.h"
#include "examples/sft/micro_batches.h"
#include "tests/examples/tiny_model.h"
#include "tests/refusal.h"

namespace examples::testing {
namespace {

using deepscale::ErrorCode;
using deepscale::Tokenizer;
using deepscale::testing::refusal_of;
using deepscale::testing::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Tokenizer& letters() {
  static const Tokenizer tokenizer = Tokenizer::parse(letter_tokenizer(), "letters");
  return tokenizer;
}

std::vector<std::int64_t> encode(const char* text) {
  return letters().encode(text, false);
}

TEST(TextSamples, AreTheTokensOfAllFilesBetweenSpecialOnes) {
  const TemporaryFolder folder;
  folder.write("b.txt", "ghi\njkl mno pqrs");
  folder.write("a.txt", "abcdef\n\n");
  folder.write("c.md", "not read");
  const bert_pretraining::TextSamples samples(folder.path(), letters(), 8);
  ASSERT_EQ(samples.count(), 3);
  const auto sample = [&](std::int64_t index) {
    return letters().decode({samples.sample(index), samples.sample(index) + 8}, false);
  };
  EXPECT_EQ(sample(0), "[CLS]abcdef[SEP]");
  EXPECT_EQ(sample(1), "[CLS]ghijkl[SEP]");
  EXPECT_EQ(sample(2), "[CLS] mno p[SEP]");
}

TEST(TextSamples, WhatGivesNoSampleIsRefused) {
  const TemporaryFolder folder;
  const auto path = folder.write("a.txt", "abc");
  const auto refusal = [](const std::filesystem::path& from) {
    return refusal_of([&] { bert_pretraining::TextSamples(from, letters(), 8); });
  };
  EXPECT_THAT(refusal(path).message, HasSubstr("do not fill one sample of 8"));
  EXPECT_EQ(refusal(folder.path() / "none").code, ErrorCode::kNotFound);
}

TEST(Mask, ChoosesItsShareAndIsTheSameForTheSameStep) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 500; ++i) text += "the quick brown fox ";
  const bert_pretraining::TextSamples samples(folder.write("a.txt", text), letters(), 100);
  const std::vector<std::int64_t> chosen = {0, 5, 7, 9, 50, 51, 60, 61, 62, 63};
  bert_pretraining::MaskOptions options{
      .probability = 0.15, .mask_token = 3, .vocabulary = letters().size(), .seed = 7, .step = 12, .rank = 1};
  const auto batch = mask(samples, chosen, letters(), options);
  ASSERT_EQ(batch.tokens.size(), 1000U);
  int labels = 0, masked = 0;
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    const std::int64_t before = samples.sample(chosen[i / 100])[i % 100];
    if (batch.labels[i] == -100) {
      EXPECT_EQ(batch.tokens[i], before);
      continue;
    }
    EXPECT_EQ(batch.labels[i], before);
    EXPECT_FALSE(letters().is_special(before));
    ++labels;
    masked += batch.tokens[i] == 3 ? 1 : 0;
  }
  EXPECT_NEAR(labels, 147, 45);
  EXPECT_NEAR(masked, 0.8 * labels, 0.15 * labels);
  EXPECT_EQ(mask(samples, chosen, letters(), options).tokens, batch.tokens);
  options.step = 13;
  EXPECT_NE(mask(samples, chosen, letters(), options).tokens, batch.tokens);
}

TEST(Mask, AlwaysHasALabel) {
  const TemporaryFolder folder;
  const bert_pretraining::TextSamples samples(folder.write("a.txt", "abcdef"), letters(), 8);
  const auto batch = mask(samples, {0}, letters(),
                          {.probability = 1e-9, .mask_token = 3, .vocabulary = letters().size(), .seed = 1});
  EXPECT_EQ(std::count(batch.labels.begin(), batch.labels.end(), -100), 7);
}

TEST(Instructions, ASampleIsPromptResponseAndEnd) {
  const TemporaryFolder folder;
  const auto path = folder.write("data.jsonl", R"({"prompt": "ab ", "response": "cd", "more": 1})"
                                               "\r\n\n"
                                               R"({"prompt": "a", "response": "bcdefgh"})");
  const auto samples = sft::read_samples(path, letters(), {.max_tokens = 6, .end_token = 2});
  ASSERT_EQ(samples.size(), 2U);
  EXPECT_EQ(letters().decode(samples[0].tokens, false), "ab cd</s>");
  EXPECT_EQ(samples[0].prompt_tokens, 3);
  EXPECT_EQ(samples[1].tokens, encode("abcdef")) << "cut at six";
}

TEST(Instructions, ThePromptKeepsWhatATokenizerPutsBeforeATextAlone) {
  std::string json = letter_tokenizer();
  json.pop_back();
  json += R"(, "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}],
      "special_tokens": {"[CLS]": {"ids": [4]}, "[SEP]": {"ids": [5]}}}})";
  const Tokenizer tokenizer = Tokenizer::parse(json, "letters");
  const TemporaryFolder folder;
  const auto path = folder.write("data.jsonl", R"({"prompt": "a", "response": "b"})");
  const auto samples = sft::read_samples(path, tokenizer, {});
  EXPECT_EQ(tokenizer.decode(samples[0].tokens, false), "[CLS]ab");
  EXPECT_EQ(samples[0].prompt_tokens, 2);
}

TEST(Instructions, EveryTenthIsKeptToEvaluateOn) {
  std::vector<sft::Sample> samples;
  for (std::int64_t i = 0; i < 25; ++i) samples.push_back({.tokens = {i}});
  const auto kept = sft::split_off_evaluation(samples);
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_THAT(kept[1].tokens, ElementsAre(19));
  EXPECT_EQ(samples.size(), 23U);
  samples.resize(1);
  EXPECT_EQ(sft::split_off_evaluation(samples).size(), 1U);
  EXPECT_EQ(samples.size(), 1U);
}

TEST(Instructions, TheFirstTokenIsNotPredicted) {
  const sft::Sample sample{.tokens = {1, 2, 3, 4, 5}, .prompt_tokens = 3};
  EXPECT_EQ(sft::counted_tokens(sample, false), 2);
  EXPECT_EQ(sft::counted_tokens(sample, true), 4);
  EXPECT_EQ(sft::counted_tokens({.tokens = {1, 2}, .prompt_tokens = 0}, false), 1);
}

// Over all ranks and micro steps of an optimizer step.
TEST(MicroBatches, TheMeanOfWeightedLossesIsTheMeanOverTheTokens) {
  const std::vector<std::int64_t> tokens = {1, 9, 4, 2, 30, 6, 7, 3, 5, 8, 11};
  for (const int world : {1, 2, 3}) {
    for (const std::int64_t accumulation : {1, 2, 3}) {
      const sft::BatchPlan plan{
          .batch_size = 2, .accumulation_steps = accumulation, .world_size = world, .epochs = 3};
      // Micro batches of all ranks, by optimizer step.
      std::map<std::size_t, std::vector<sft::MicroBatch>> steps;
      std::vector<std::size_t> dealt(tokens.size(), 0);
      for (int rank = 0; rank < world; ++rank) {
        std::size_t micro_step = 0;
        for (const auto& epoch : sft::micro_batches(plan, rank, tokens)) {
          for (const sft::MicroBatch& batch : epoch) {
            steps[micro_step++ / static_cast<std::size_t>(accumulation)].push_back(batch);
            for (const std::int64_t sample : batch.samples) ++dealt[static_cast<std::size_t>(sample)];
          }
        }
      }
      EXPECT_EQ(steps.begin()->second.size(), static_cast<std::size_t>(world * accumulation));
      for (const std::size_t times : dealt) EXPECT_GE(times, 3U) << "an epoch lacks a sample";
      for (const auto& [step, batches] : steps) {
        double all = 0;
        for (const auto& batch : batches)
          for (const std::int64_t sample : batch.samples)
            all += static_cast<double>(tokens[static_cast<std::size_t>(sample)]);
        for (const auto& batch : batches) {
          double own = 0;
          for (const std::int64_t sample : batch.samples)
            own += static_cast<double>(tokens[static_cast<std::size_t>(sample)]);
          EXPECT_DOUBLE_EQ(batch.weight / static_cast<double>(world * accumulation), own / all)
              << world << " ranks, step " << step;
        }
      }
    }
  }
}

}  // namespace
}  // namespace examples::testing
