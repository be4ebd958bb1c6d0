// Decoders against the logits that transformers has for the same tiny models (golden/make_golden_models.py).
#include "runtime/inference/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "comm/base/error.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/inference/dummy_weights.h"
#include "runtime/inference/generate.h"
#include "runtime/inference/streamed_source.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(GOLDEN_MODELS) / name;
}

std::shared_ptr<const ModelWeights> weights_of(const std::filesystem::path& directory) {
  return std::make_shared<ModelWeights>(read_model_config(directory),
                                        std::make_shared<WeightFiles>(directory));
}

template <typename Element>
std::vector<Element> tensor(const std::filesystem::path& file, const std::string& name) {
  const SafetensorsReader reader(file);
  std::vector<Element> values(static_cast<std::size_t>(reader.entries().at(name).bytes) / sizeof(Element));
  reader.read(name, values.data());
  return values;
}

// What transformers says of 2 sequences of 12 tokens: logits [2, 12, vocab].
struct Expected {
  explicit Expected(const std::string& model)
      : ids(tensor<std::int64_t>(golden(model) / "expected.safetensors", "input_ids")),
        logits(tensor<float>(golden(model) / "expected.safetensors", "logits")) {}
  static constexpr std::int64_t kLength = 12;
  DecoderToken token(std::int64_t sequence, std::int64_t position) const {
    return {sequence, static_cast<std::int32_t>(ids[sequence * kLength + position])};
  }
  std::span<const float> row(std::int64_t sequence, std::int64_t position) const {
    const std::size_t vocab = logits.size() / ids.size();
    return std::span(logits).subspan((sequence * kLength + position) * vocab, vocab);
  }
  std::vector<std::int64_t> ids;
  std::vector<float> logits;
};

void expect_near(std::span<const float> got, std::span<const float> wanted, float tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], tolerance) << "element " << i;
}

class DecoderTest : public ::testing::TestWithParam<const char*> {};

TEST_P(DecoderTest, PrefillHasTheLogitsOfTransformers) {
  const Expected expected(GetParam());
  const auto weights = weights_of(golden(GetParam()));
  Decoder decoder(weights, make_mapped_source(weights), {.threads = 2, .sequences = 2, .positions = 12});
  std::vector<DecoderToken> tokens;
  for (std::int64_t sequence = 0; sequence < 2; ++sequence)
    for (std::int64_t position = 0; position < 12; ++position)
      tokens.push_back(expected.token(sequence, position));
  const auto logits = decoder.step(tokens);
  const std::size_t vocab = logits.size() / 2;
  expect_near(logits.first(vocab), expected.row(0, 11), 1e-4f);
  expect_near(logits.subspan(vocab), expected.row(1, 11), 1e-4f);
}

TEST_P(DecoderTest, TokenByTokenHasTheSameLogitsFromStreamedLayers) {
  const Expected expected(GetParam());
  const auto weights = weights_of(golden(GetParam()));
  Decoder decoder(weights, make_streamed_source(layers_in_files(*weights)),
                  {.sequences = 2, .positions = 12});
  for (std::int64_t position = 0; position < 12; ++position) {
    const DecoderToken tokens[] = {expected.token(1, position), expected.token(0, position)};
    const auto logits = decoder.step(tokens);
    const std::size_t vocab = logits.size() / 2;
    expect_near(logits.first(vocab), expected.row(1, position), 1e-4f);
    expect_near(logits.subspan(vocab), expected.row(0, position), 1e-4f);
  }
  for (const LayerTiming& timing : decoder.timings()) EXPECT_GT(timing.transfer.bytes, 0);
}

INSTANTIATE_TEST_SUITE_P(All, DecoderTest,
                         ::testing::Values("llama", "llama_untied", "mistral", "phi3", "opt"),
                         [](const auto& model) { return std::string(model.param); });

// A model with room for quantisation, of random weights.
class DummyModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(folder_.path() / "config.json")
        << R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
      "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.2})";
    write_dummy_weights(read_model_config(folder_.path()), folder_.path(), 1);
    weights_ = weights_of(folder_.path());
  }
  std::vector<float> logits(std::unique_ptr<LayerSource> source) {
    Decoder decoder(weights_, std::move(source), {.threads = 2, .positions = 8});
    const DecoderToken tokens[] = {{0, 5}, {0, 17}, {0, 80}};
    const auto result = decoder.step(tokens);
    return {result.begin(), result.end()};
  }
  testing::TemporaryFolder folder_;
  std::shared_ptr<const ModelWeights> weights_;
};

TEST_F(DummyModelTest, QuantisedLayersAreTheSameInMemoryAndStreamed) {
  const auto exact = logits(make_mapped_source(weights_));
  for (const int bits : {8, 4}) {
    const auto in_memory = logits(make_quantized_source(*weights_, bits, 32));
    const auto streamed =
        logits(make_streamed_source(write_quantized_layers(*weights_, bits, 32, folder_.path() / "layers"),
                                    {.buffers = 3, .readers = 2}));
    EXPECT_EQ(in_memory, streamed);
    double difference = 0, magnitude = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      difference += std::abs(in_memory[i] - exact[i]);
      magnitude += std::abs(exact[i]);
    }
    EXPECT_LT(difference, (bits == 8 ? 0.05 : 0.5) * magnitude);
    EXPECT_GT(difference, 0);
  }
}

TEST_F(DummyModelTest, ABf16CacheIsWithinItsRounding) {
  Decoder exact(weights_, make_mapped_source(weights_), {.positions = 8});
  Decoder rounded(weights_, make_mapped_source(weights_), {.positions = 8, .cache_dtype = DType::kBFloat16});
  const DecoderToken tokens[] = {{0, 5}, {0, 17}, {0, 80}};
  const auto left = exact.step(tokens), right = rounded.step(tokens);
  double difference = 0, magnitude = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    difference += std::abs(left[i] - right[i]);
    magnitude += std::abs(left[i]);
  }
  EXPECT_LT(difference, 0.02 * magnitude);
  EXPECT_EQ(2 * rounded.cache().shape().bytes(), exact.cache().shape().bytes());
}

TEST_F(DummyModelTest, GenerationOfUnevenPromptsEqualsEachAlone) {
  Decoder decoder(weights_, make_mapped_source(weights_), {.sequences = 3, .positions = 16});
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
  Decoder decoder(weights_, make_mapped_source(weights_), {.sequences = 2, .positions = 16});
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
  Decoder decoder(weights_, make_mapped_source(weights_), {.positions = 16});
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
  Decoder decoder(weights_, make_mapped_source(weights_), {.positions = 4});
  const DecoderToken stranger[] = {{0, 96}}, other_sequence[] = {{1, 1}};
  EXPECT_THROW(decoder.step(stranger), Error);
  EXPECT_THROW(decoder.step(other_sequence), Error);
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3}}, empty = {{}};
  EXPECT_THROW(generate(decoder, prompts, {.new_tokens = 3}), Error);
  EXPECT_THROW(generate(decoder, empty, {.new_tokens = 1}), Error);
  EXPECT_THROW(generate(decoder, prompts, {.new_tokens = 1, .samples = true, .temperature = 0}), Error);
  EXPECT_EQ(generate(decoder, prompts, {.new_tokens = 2}).tokens[0].size(), 2u);
  EXPECT_THROW(Decoder(weights_, make_mapped_source(weights_), {.positions = 33}), Error)
      << "the model has 32";
}

TEST_F(DummyModelTest, AFileThatIsCutShortWhileItIsStreamedIsNamed) {
  StreamedLayers layers = write_quantized_layers(*weights_, 8, 32, folder_.path() / "layers");
  std::filesystem::resize_file(folder_.path() / "layers",
                               std::filesystem::file_size(folder_.path() / "layers") / 2);
  Decoder decoder(weights_, make_streamed_source(std::move(layers)), {.positions = 4});
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
    weights_of(folder_.path())->outer();
    FAIL() << "there is no embedding";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("embed_tokens.weight"));
  }
}

}  // namespace
}  // namespace deepscale
