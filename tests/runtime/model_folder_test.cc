// The size of a model out of its folder: the published numbers of parameters, and every damage by its name.
#include "runtime/checkpoint/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/checkpoint/safetensors.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using testing::refusal_of;
using testing::TemporaryFolder;

std::int64_t numel_of_config(const std::string& config) {
  return ModelSize{layers_of_config(config, "config.json"), ""}.numel();
}

TEST(ModelFolder, KnowsThePublishedSizesFromTheConfigAlone) {
  EXPECT_EQ(numel_of_config(R"({"model_type": "opt", "hidden_size": 768, "vocab_size": 50272,
      "max_position_embeddings": 2048, "num_hidden_layers": 12, "ffn_dim": 3072, "word_embed_proj_dim": 768})"),
            125'239'296);
  EXPECT_EQ(numel_of_config(R"({"model_type": "gpt2", "n_embd": 768, "vocab_size": 50257, "n_positions": 1024,
      "n_layer": 12, "n_inner": null})"),
            124'439'808);
  EXPECT_EQ(numel_of_config(R"({"model_type": "bert", "hidden_size": 768, "vocab_size": 30522,
      "max_position_embeddings": 512, "type_vocab_size": 2, "num_hidden_layers": 12, "intermediate_size": 3072})"),
            109'482'240);
  EXPECT_EQ(numel_of_config(R"({"model_type": "llama", "hidden_size": 4096, "vocab_size": 32000,
      "num_attention_heads": 32, "num_hidden_layers": 32, "intermediate_size": 11008})"),
            6'738'415'616);
  EXPECT_EQ(numel_of_config(R"({"model_type": "qwen2", "hidden_size": 896, "vocab_size": 151936,
      "num_attention_heads": 14, "num_key_value_heads": 2, "num_hidden_layers": 24, "intermediate_size": 4864,
      "tie_word_embeddings": true})"),
            494'032'768);
}

TEST(ModelFolder, PrefersTheWeightsAndSumsThemByModule) {
  const TemporaryFolder folder;
  const std::vector<float> values(64);
  folder.write("config.json", "{}");
  write_safetensors(folder.path() / "a.safetensors",
                    {{"embed.weight", "F32", {8, 4}, values.data()}, {"scale", "F32", {1}, values.data()}});
  write_safetensors(folder.path() / "b.safetensors", {{"head.weight", "BF16", {8, 5}, values.data()},
                                                      {"head.bias", "F32", {8}, values.data()}});
  folder.write("model.safetensors.index.json",
               R"({"weight_map": {"embed.weight": "a.safetensors", "scale": "a.safetensors",
                   "head.weight": "b.safetensors", "head.bias": "b.safetensors"}})");
  const ModelSize size = measure_model_folder(folder.path());
  EXPECT_EQ(size.numel(), 32 + 1 + 40 + 8);
  EXPECT_EQ(size.largest().name, "head");
  EXPECT_EQ(size.largest().numel, 48);
}

TEST(ModelFolder, SaysWhatIsWrongAndWhere) {
  const TemporaryFolder folder;
  EXPECT_THAT(refusal_of([&] { measure_model_folder(folder.path() / "none"); }).message, HasSubstr("none"));
  EXPECT_EQ(refusal_of([&] { measure_model_folder(folder.path()); }).code, ErrorCode::kNotFound);
  folder.write("config.json", R"({"model_type": "rwkv"})");
  EXPECT_THAT(refusal_of([&] { measure_model_folder(folder.path()); }).message, HasSubstr("\"rwkv\""));
  folder.write("config.json", R"({"model_type": "opt", "hidden_size": -1})");
  EXPECT_THAT(refusal_of([&] { measure_model_folder(folder.path()); }).message,
              HasSubstr("\"hidden_size\" is -1"));
  folder.write("config.json", R"({"model_type": "opt"})");
  EXPECT_THAT(refusal_of([&] { measure_model_folder(folder.path()); }).message,
              HasSubstr("config.json: there is no \"hidden_size\""));
  folder.write("model.safetensors.index.json", R"({"weight_map": {"x": 3}})");
  EXPECT_EQ(refusal_of([&] { measure_model_folder(folder.path()); }).code, ErrorCode::kProtocol);
  folder.write("model.safetensors.index.json", R"({"weight_map": {"x": "missing.safetensors"}})");
  EXPECT_THAT(refusal_of([&] { measure_model_folder(folder.path()); }).message,
              HasSubstr("missing.safetensors"));
}

}  // namespace
}  // namespace deepscale
