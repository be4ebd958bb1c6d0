// Decoders against the logits that transformers has for the same tiny models (golden/make_golden_models.py).
#include "runtime/inference/host_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "comm/base/error.h"
#include "runtime/inference/generate.h"
#include "runtime/inference/streamed_source.h"
#include "tests/inference/decoder_models.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(GOLDEN_MODELS) / name;
}

class DecoderTest : public ::testing::TestWithParam<const char*> {};

TEST_P(DecoderTest, PrefillHasTheLogitsOfTransformers) {
  const testing::ExpectedLogits expected(golden(GetParam()));
  const auto weights = testing::weights_of(golden(GetParam()));
  HostDecoder decoder(weights, make_mapped_source(weights), {.threads = 2, .sequences = 2, .positions = 12});
  std::vector<DecoderToken> tokens;
  for (std::int64_t sequence = 0; sequence < 2; ++sequence)
    for (std::int64_t position = 0; position < 12; ++position)
      tokens.push_back(expected.token(sequence, position));
  const auto logits = decoder.step(tokens);
  const std::size_t vocab = logits.size() / 2;
  testing::expect_near(logits.first(vocab), expected.row(0, 11), 1e-4f);
  testing::expect_near(logits.subspan(vocab), expected.row(1, 11), 1e-4f);
}

TEST_P(DecoderTest, TokenByTokenHasTheSameLogitsFromStreamedLayers) {
  const testing::ExpectedLogits expected(golden(GetParam()));
  const auto weights = testing::weights_of(golden(GetParam()));
  HostDecoder decoder(weights, make_streamed_source(layers_in_files(*weights)),
                      {.sequences = 2, .positions = 12});
  for (std::int64_t position = 0; position < 12; ++position) {
    const DecoderToken tokens[] = {expected.token(1, position), expected.token(0, position)};
    const auto logits = decoder.step(tokens);
    const std::size_t vocab = logits.size() / 2;
    testing::expect_near(logits.first(vocab), expected.row(1, position), 1e-4f);
    testing::expect_near(logits.subspan(vocab), expected.row(0, position), 1e-4f);
  }
  for (const LayerTiming& timing : decoder.timings()) EXPECT_GT(timing.transfer.bytes, 0);
}

INSTANTIATE_TEST_SUITE_P(All, DecoderTest,
                         ::testing::Values("llama", "llama_untied", "mistral", "phi3", "opt"),
                         [](const auto& model) { return std::string(model.param); });

class DummyModelTest : public ::testing::Test {
 protected:
  std::vector<float> logits(std::unique_ptr<LayerSource> source) {
    HostDecoder decoder(weights_, std::move(source), {.threads = 2, .positions = 8});
    const DecoderToken tokens[] = {{0, 5}, {0, 17}, {0, 80}};
    const auto result = decoder.step(tokens);
    return {result.begin(), result.end()};
  }
  testing::TemporaryFolder folder_;
  std::shared_ptr<const ModelWeights> weights_ = testing::make_dummy_model(folder_.path());
};

TEST_F(DummyModelTest, QuantisedLayersAreTheSameInMemoryAndStreamed) {
  const auto exact = logits(make_mapped_source(weights_));
  for (const int bits : {8, 4}) {
    const auto in_memory = logits(make_quantized_source(*weights_, bits, 32));
    const auto streamed =
        logits(make_streamed_source(write_quantized_layers(*weights_, bits, 32, folder_.path() / "layers"),
                                    {.buffers = 3, .readers = 2}));
    EXPECT_EQ(in_memory, streamed);
    const auto path = folder_.path() / "layers";
    EXPECT_EQ(in_memory, logits(make_mapped_source(quantized_layers_in(*weights_, bits, 32, path))));
    double difference = 0, magnitude = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      difference += std::abs(in_memory[i] - exact[i]);
      magnitude += std::abs(exact[i]);
    }
    EXPECT_LT(difference, (bits == 8 ? 0.05 : 0.5) * magnitude);
    EXPECT_GT(difference, 0);
  }
}

TEST_F(DummyModelTest, LayersAreReadWholeAndStepsGoOnAfterIt) {
  const std::int64_t bytes = 2 * 3 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 128 * 64);
  for (const bool is_streamed : {false, true}) {
    HostDecoder decoder(
        weights_,
        is_streamed ? make_streamed_source(layers_in_files(*weights_)) : make_mapped_source(weights_),
        {.positions = 8});
    const DecoderToken tokens[] = {{0, 5}, {0, 17}, {0, 80}};
    const auto before = decoder.step(tokens);
    const std::vector<float> wanted(before.begin(), before.end());
    const LayerReading reading = decoder.read_layers();
    EXPECT_EQ(reading.bytes, bytes);
    EXPECT_GT(reading.time.count(), 0);
    decoder.reset();
    const auto after = decoder.step(tokens);
    EXPECT_EQ(wanted, std::vector<float>(after.begin(), after.end()));
  }
}

TEST_F(DummyModelTest, ABf16CacheIsWithinItsRounding) {
  HostDecoder exact(weights_, make_mapped_source(weights_), {.positions = 8});
  HostDecoder rounded(weights_, make_mapped_source(weights_),
                      {.positions = 8, .cache_dtype = DType::kBFloat16});
  const DecoderToken tokens[] = {{0, 5}, {0, 17}, {0, 80}};
  const auto left = exact.step(tokens), right = rounded.step(tokens);
  double difference = 0, magnitude = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    difference += std::abs(left[i] - right[i]);
    magnitude += std::abs(left[i]);
  }
  EXPECT_LT(difference, 0.02 * magnitude);
  EXPECT_EQ(2 * rounded.cache_bytes(), exact.cache_bytes());
}

TEST_F(DummyModelTest, GenerationOfUnevenPromptsEqualsEachAlone) {
  HostDecoder decoder(weights_, make_mapped_source(weights_), {.sequences = 3, .positions = 16});
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3, 4, 5}, {7}, {90, 11}};
  const Generation together = generate(decoder, prompts, {.new_tokens = 6});
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(together.tokens[i].size(), 6u);
    EXPECT_EQ(generate(decoder, std::span(prompts).subspan(i, 1), {.new_tokens = 6}).tokens[0],
              together.tokens[i]);
  }
  EXPECT_EQ(together.decoded, 3 * 5);
}

TEST_F(DummyModelTest, AnEndTokenEndsItsSequenceOnly) {
  HostDecoder decoder(weights_, make_mapped_source(weights_), {.sequences = 2, .positions = 16});
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3}, {7}};
  const Generation whole = generate(decoder, prompts, {.new_tokens = 5});
  const std::int32_t end = whole.tokens[0][1];
  const Generation ended = generate(decoder, prompts, {.new_tokens = 5, .end_tokens = {end}});
  const auto cut = [&](std::vector<std::int32_t> tokens) {
    const auto at = std::find(tokens.begin(), tokens.end(), end);
    if (at != tokens.end()) tokens.erase(at + 1, tokens.end());
    return tokens;
  };
  EXPECT_EQ(ended.tokens[0], cut(whole.tokens[0]));
  EXPECT_EQ(ended.tokens[1], cut(whole.tokens[1]));
}

TEST_F(DummyModelTest, SamplingFollowsItsSeed) {
  HostDecoder decoder(weights_, make_mapped_source(weights_), {.positions = 16});
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3}};
  const auto sample = [&](std::uint64_t seed, std::int64_t top_k) {
    return generate(decoder, prompts,
                    {.new_tokens = 8, .samples = true, .temperature = 2.0, .top_k = top_k, .seed = seed})
        .tokens[0];
  };
  EXPECT_EQ(sample(1, 0), sample(1, 0));
  EXPECT_NE(sample(1, 0), sample(2, 0));
  EXPECT_EQ(sample(3, 1), generate(decoder, prompts, {.new_tokens = 8}).tokens[0]) << "the likeliest only";
}

TEST_F(DummyModelTest, WhatDoesNotFitIsRefusedBeforeAnythingChanges) {
  HostDecoder decoder(weights_, make_mapped_source(weights_), {.positions = 4});
  const DecoderToken stranger[] = {{0, 96}}, other_sequence[] = {{1, 1}};
  EXPECT_THROW(decoder.step(stranger), Error);
  EXPECT_THROW(decoder.step(other_sequence), Error);
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3}}, empty = {{}};
  EXPECT_THROW(generate(decoder, prompts, {.new_tokens = 3}), Error);
  EXPECT_THROW(generate(decoder, empty, {.new_tokens = 1}), Error);
  EXPECT_THROW(generate(decoder, prompts, {.new_tokens = 1, .samples = true, .temperature = 0}), Error);
  EXPECT_EQ(generate(decoder, prompts, {.new_tokens = 2}).tokens[0].size(), 2u);
  EXPECT_THROW(HostDecoder(weights_, make_mapped_source(weights_), {.positions = 33}), Error)
      << "the model has 32";
}

TEST_F(DummyModelTest, AFileThatIsCutShortWhileItIsStreamedIsNamed) {
  StreamedLayers layers = write_quantized_layers(*weights_, 8, 32, folder_.path() / "layers");
  std::filesystem::resize_file(folder_.path() / "layers",
                               std::filesystem::file_size(folder_.path() / "layers") / 2);
  EXPECT_EQ(testing::refusal_of([&] { make_mapped_source(layers); }).code, ErrorCode::kProtocol);
  HostDecoder decoder(weights_, make_streamed_source(std::move(layers)), {.positions = 4});
  const DecoderToken token[] = {{0, 1}};
  try {
    decoder.step(token);
    FAIL() << "half of the layers are missing";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kProtocol);
    EXPECT_THAT(error.what(), ::testing::HasSubstr((folder_.path() / "layers").string()));
  }
}

TEST_F(DummyModelTest, AMissingTensorIsNamed) {
  weights_.reset();  // Windows removes no file that is mapped
  std::filesystem::remove(folder_.path() / "model.safetensors");
  const float value = 0;
  write_safetensors(folder_.path() / "model.safetensors", {{"model.norm.weight", "F32", {1}, &value}});
  try {
    testing::weights_of(folder_.path())->outer();
    FAIL() << "there is no embedding";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("embed_tokens.weight"));
  }
}

}  // namespace
}  // namespace deepscale
