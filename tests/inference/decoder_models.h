// The tiny models that decoders are tested with: those of tests/torch/golden, with the logits of
// transformers, and one with room for quantisation.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/checkpoint/safetensors.h"
#include "runtime/inference/decoder.h"
#include "runtime/inference/dummy_weights.h"
#include "runtime/inference/layer_weights.h"

namespace deepscale::testing {

inline std::shared_ptr<const ModelWeights> weights_of(const std::filesystem::path& directory) {
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
struct ExpectedLogits {
  explicit ExpectedLogits(const std::filesystem::path& model)
      : ids(tensor<std::int64_t>(model / "expected.safetensors", "input_ids")),
        logits(tensor<float>(model / "expected.safetensors", "logits")) {}
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

inline void expect_near(std::span<const float> got, std::span<const float> wanted, float tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], tolerance) << "element " << i;
}

// A Llama of random bf16 weights in `folder`.
inline std::shared_ptr<const ModelWeights> make_dummy_model(const std::filesystem::path& folder) {
  std::ofstream(folder / "config.json") << R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
      "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.2})";
  write_dummy_weights(read_model_config(folder), folder, 1);
  return weights_of(folder);
}

}  // namespace deepscale::testing
