// Decoders on a device against the logits of transformers and against the decoder of the CPU. The device is a
// GPU where the build and the machine have one.
#include "runtime/device_inference/device_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "comm/base/error.h"
#include "runtime/inference/generate.h"
#include "runtime/inference/host_decoder.h"
#include "runtime/inference/streamed_source.h"
#include "tests/inference/decoder_models.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(GOLDEN_MODELS) / name;
}

std::string test_device() {
  const std::string gpu = gpu_of_rank({});
  return gpu.empty() ? "cpu" : gpu;
}

// Where weights and cache are kept.
struct Placement {
  const char* name;
  bool streams_files, keeps_weights_on_host, pins_weights, keeps_cache_on_host;
};
constexpr Placement kPlacements[] = {{"OnTheDevice", false, false, false, false},
                                     {"OnTheHost", false, true, false, true},
                                     {"Pinned", false, true, true, false},
                                     {"InFiles", true, true, false, true}};

std::unique_ptr<LayerSource> make_source(const Placement& placement,
                                         const std::shared_ptr<const ModelWeights>& weights) {
  return placement.streams_files ? make_streamed_source(layers_in_files(*weights))
                                 : make_mapped_source(weights);
}

DeviceDecoderOptions options_of(const Placement& placement, std::int64_t sequences, std::int64_t positions) {
  return {.device = test_device(),
          .sequences = sequences,
          .positions = positions,
          .dtype = DType::kFloat32,
          .keeps_weights_on_host = placement.keeps_weights_on_host,
          .pins_weights = placement.pins_weights,
          .keeps_cache_on_host = placement.keeps_cache_on_host,
          .times_layers = true};
}

class DeviceDecoderTest : public ::testing::TestWithParam<std::tuple<const char*, Placement>> {
 protected:
  std::unique_ptr<Decoder> make_decoder(std::int64_t sequences) {
    const auto weights = testing::weights_of(golden(model_));
    return make_device_decoder(weights, make_source(placement_, weights),
                               options_of(placement_, sequences, testing::ExpectedLogits::kLength));
  }
  const char* model_ = std::get<0>(GetParam());
  const Placement placement_ = std::get<1>(GetParam());
  const testing::ExpectedLogits expected_{golden(model_)};
};

TEST_P(DeviceDecoderTest, UnevenPromptsAndSingleTokensHaveTheLogitsOfTransformers) {
  const auto decoder = make_decoder(3);
  std::vector<DecoderToken> prompts;  // 9 tokens of row 0 as sequence 2, and 4 of row 1 as sequence 0, mixed
  for (std::int64_t position = 0; position < 9; ++position) {
    prompts.push_back({2, expected_.token(0, position).token});
    if (position < 4) prompts.push_back({0, expected_.token(1, position).token});
  }
  const auto first = decoder->step(prompts);
  const std::size_t vocab = first.size() / 2;
  testing::expect_near(first.first(vocab), expected_.row(0, 8), 1e-4f);
  testing::expect_near(first.subspan(vocab), expected_.row(1, 3), 1e-4f);
  for (std::int64_t position = 4; position < 12; ++position) {
    std::vector<DecoderToken> tokens = {{0, expected_.token(1, position).token}};
    if (position >= 9) tokens.push_back({2, expected_.token(0, position).token});
    const auto logits = decoder->step(tokens);
    testing::expect_near(logits.first(vocab), expected_.row(1, position), 1e-4f);
    if (position >= 9) testing::expect_near(logits.subspan(vocab), expected_.row(0, position), 1e-4f);
  }
}

TEST_P(DeviceDecoderTest, AfterAResetTheWholeCacheIsUsedAnew) {
  const auto decoder = make_decoder(2);
  std::vector<DecoderToken> tokens;
  for (std::int64_t i = 0; i < 24; ++i) tokens.push_back(expected_.token(i / 12, i % 12));
  decoder->step(tokens);
  decoder->reset();
  const auto logits = decoder->step(tokens);
  const std::size_t vocab = logits.size() / 2;
  testing::expect_near(logits.first(vocab), expected_.row(0, 11), 1e-4f);
  testing::expect_near(logits.subspan(vocab), expected_.row(1, 11), 1e-4f);
}

TEST_P(DeviceDecoderTest, TellsWhatLayersCost) {
  const auto decoder = make_decoder(1);
  const DecoderToken token[] = {expected_.token(0, 0)};
  decoder->step(token);
  ASSERT_EQ(static_cast<std::int64_t>(decoder->timings().size()), decoder->config().layers);
  for (const LayerTiming& timing : decoder->timings()) {
    EXPECT_GT(timing.compute.count(), 0);
    EXPECT_EQ(timing.transfer.bytes > 0, placement_.keeps_weights_on_host);
    EXPECT_EQ(timing.transfer.time.count() > 0, placement_.keeps_weights_on_host);
  }
  EXPECT_GT(decoder->peak_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, DeviceDecoderTest,
                         ::testing::Combine(::testing::Values("llama", "llama_untied", "mistral", "phi3",
                                                              "opt"),
                                            ::testing::ValuesIn(kPlacements)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param).name;
                         });

class DeviceDummyModelTest : public ::testing::Test {
 protected:
  std::vector<float> logits_of(Decoder& decoder) const {
    const DecoderToken tokens[] = {{0, 5}, {0, 17}, {0, 80}};
    const auto logits = decoder.step(tokens);
    return {logits.begin(), logits.end()};
  }
  std::vector<float> on_the_device(std::unique_ptr<LayerSource> source, const Placement& placement) const {
    return logits_of(*make_device_decoder(weights_, std::move(source), options_of(placement, 1, 8)));
  }
  std::vector<float> on_the_host(std::unique_ptr<LayerSource> source) const {
    HostDecoder decoder(weights_, std::move(source), {.positions = 8});
    return logits_of(decoder);
  }
  static void expect_within(double tolerance, const std::vector<float>& left,
                            const std::vector<float>& right) {
    ASSERT_EQ(left.size(), right.size());
    double difference = 0, magnitude = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
      difference += std::abs(left[i] - right[i]);
      magnitude += std::abs(right[i]);
    }
    EXPECT_LT(difference, tolerance * magnitude);
    EXPECT_GT(magnitude, 0);
  }
  testing::TemporaryFolder folder_;
  std::shared_ptr<const ModelWeights> weights_ = testing::make_dummy_model(folder_.path());
};

TEST_F(DeviceDummyModelTest, ActivationsOf16BitsGiveTheLogitsWithinTheirRounding) {
  const auto wanted = on_the_host(make_mapped_source(weights_));
  for (const Placement& placement : kPlacements) {
    DeviceDecoderOptions options = options_of(placement, 1, 8);
    options.dtype.reset();
    const auto decoder = make_device_decoder(weights_, make_source(placement, weights_), options);
    expect_within(0.1, logits_of(*decoder), wanted);
    options.dtype = DType::kFloat32;
    EXPECT_EQ(2 * decoder->cache_bytes(),
              make_device_decoder(weights_, make_source(placement, weights_), options)->cache_bytes());
  }
}

// The products of the CPU may round activations to 15 bits of the largest in a group.
TEST_F(DeviceDummyModelTest, QuantisedLayersAreThoseOfTheCpu) {
  for (const int bits : {8, 4}) {
    const auto wanted = on_the_host(make_quantized_source(*weights_, bits, 32));
    for (const Placement& placement : kPlacements) {
      auto source =
          placement.streams_files
              ? make_streamed_source(write_quantized_layers(*weights_, bits, 32, folder_.path() / "layers"))
              : make_quantized_source(*weights_, bits, 32);
      expect_within(5e-4, on_the_device(std::move(source), placement), wanted);  // the CPU rounds activations
    }
  }
}

TEST_F(DeviceDummyModelTest, QuantisedLayersStayPackedOnTheDevice) {
  const auto bytes = [&](std::unique_ptr<LayerSource> source) {
    return make_device_decoder(weights_, std::move(source), options_of(kPlacements[0], 1, 8))
        ->resident_weight_bytes();
  };
  const std::int64_t whole = bytes(make_mapped_source(weights_));
  const std::int64_t packed = bytes(make_quantized_source(*weights_, 4, 64));
  const std::int64_t outer =
      weights_->outer().token_embedding.rows * 64 * 4 * 2;  // embedding and head, as fp32
  EXPECT_EQ((whole - outer) * 5, (packed - outer) * 16) << "4 bits and a pair of floats for 64, of 16 each";
}

TEST_F(DeviceDummyModelTest, LayersAreReadWholeAndStepsGoOnAfterIt) {
  const std::int64_t bytes = 2 * 3 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 128 * 64);
  for (const Placement& placement : kPlacements) {
    const auto decoder =
        make_device_decoder(weights_, make_source(placement, weights_), options_of(placement, 1, 8));
    const auto wanted = logits_of(*decoder);
    EXPECT_EQ(decoder->read_layers().bytes, bytes);
    decoder->reset();
    EXPECT_EQ(logits_of(*decoder), wanted);
  }
}

TEST_F(DeviceDummyModelTest, GenerationOfUnevenPromptsEqualsEachAlone) {
  const auto decoder =
      make_device_decoder(weights_, make_mapped_source(weights_), options_of(kPlacements[1], 3, 16));
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3, 4, 5}, {7}, {90, 11}};
  const Generation together = generate(*decoder, prompts, {.new_tokens = 6});
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_EQ(together.tokens[i].size(), 6u);
    EXPECT_EQ(generate(*decoder, std::span(prompts).subspan(i, 1), {.new_tokens = 6}).tokens[0],
              together.tokens[i]);
  }
}

TEST_F(DeviceDummyModelTest, WhatDoesNotFitIsRefusedBeforeAnythingChanges) {
  const auto decoder =
      make_device_decoder(weights_, make_mapped_source(weights_), options_of(kPlacements[1], 1, 4));
  const DecoderToken stranger[] = {{0, 96}}, other_sequence[] = {{1, 1}};
  EXPECT_THROW(decoder->step(stranger), Error);
  EXPECT_THROW(decoder->step(other_sequence), Error);
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3}};
  EXPECT_EQ(generate(*decoder, prompts, {.new_tokens = 2}).tokens[0].size(), 2u);
}

TEST_F(DeviceDummyModelTest, AFileThatIsCutShortIsNamed) {
  StreamedLayers layers = write_quantized_layers(*weights_, 8, 32, folder_.path() / "layers");
  std::filesystem::resize_file(folder_.path() / "layers",
                               std::filesystem::file_size(folder_.path() / "layers") / 2);
  try {
    on_the_device(make_streamed_source(std::move(layers)), kPlacements[3]);
    FAIL() << "half of the layers are missing";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr((folder_.path() / "layers").string()));
  }
}

}  // namespace
}  // namespace deepscale
