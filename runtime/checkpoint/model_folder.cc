#include "runtime/checkpoint/model_folder.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "comm/base/error.h"
#include "runtime/checkpoint/safetensors.h"

namespace deepscale {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kWeightsIndex = "model.safetensors.index.json";
constexpr const char* kConfig = "config.json";

[[noreturn]] void refuse(const fs::path& file, const std::string& why) {
  throw Error(ErrorCode::kProtocol, fmt::format("{}: {}", file.string(), why));
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::kNotFound, fmt::format("cannot read {}", path.string()));
  return {std::istreambuf_iterator<char>(file), {}};
}

// A whole number of config.json that a model cannot be without.
class Numbers {
 public:
  Numbers(const Json& config, const fs::path& source) : config_(config), source_(source) {}
  std::int64_t at(const char* name) const {
    const auto found = config_.find(name);
    if (found == config_.end() || found->is_null()) refuse(source_, fmt::format("there is no \"{}\"", name));
    return checked(*found, name);
  }
  std::int64_t at_or(const char* name, std::int64_t otherwise) const {
    const auto found = config_.find(name);
    return found == config_.end() || found->is_null() ? otherwise : checked(*found, name);
  }
  bool is_on(const char* name, bool otherwise) const {
    const auto found = config_.find(name);
    return found == config_.end() || !found->is_boolean() ? otherwise : found->get<bool>();
  }

 private:
  std::int64_t checked(const Json& value, const char* name) const {
    constexpr std::int64_t kMost = std::int64_t{1} << 30;  // products of two stay within 63 bits
    if (value.is_number_integer()) {
      const auto number = value.get<std::int64_t>();
      if (number >= 0 && number <= kMost) return number;
    }
    refuse(source_, fmt::format("\"{}\" is {}, not a count", name, value.dump()));
  }
  const Json& config_;
  const fs::path& source_;
};

ModelLayer linear(const std::string& name, std::int64_t in, std::int64_t out, bool has_bias = true) {
  return {name, in * out + (has_bias ? out : 0)};
}

using Layers = std::vector<ModelLayer>;

Layers opt_layers(const Numbers& config) {
  const std::int64_t hidden = config.at("hidden_size");
  const std::int64_t embedded = config.at_or("word_embed_proj_dim", hidden);
  Layers layers = {{"embed_tokens", config.at("vocab_size") * embedded},
                   {"embed_positions", (config.at("max_position_embeddings") + 2) * hidden},
                   {"final_layer_norm", 2 * hidden}};
  if (embedded != hidden) layers.push_back({"project_in", 2 * embedded * hidden});
  for (std::int64_t i = 0; i < config.at("num_hidden_layers"); ++i) {
    const std::string layer = fmt::format("layers.{}.", i);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"})
      layers.push_back(linear(layer + name, hidden, hidden));
    layers.push_back(linear(layer + "fc1", hidden, config.at("ffn_dim")));
    layers.push_back(linear(layer + "fc2", config.at("ffn_dim"), hidden));
    layers.push_back({layer + "layer_norms", 4 * hidden});
  }
  return layers;
}

Layers gpt2_layers(const Numbers& config) {
  const std::int64_t hidden = config.at("n_embd");
  const std::int64_t inner = config.at_or("n_inner", 4 * hidden);
  Layers layers = {{"wte", config.at("vocab_size") * hidden},
                   {"wpe", config.at("n_positions") * hidden},
                   {"ln_f", 2 * hidden}};
  for (std::int64_t i = 0; i < config.at("n_layer"); ++i) {
    const std::string layer = fmt::format("h.{}.", i);
    layers.push_back(linear(layer + "attn.c_attn", hidden, 3 * hidden));
    layers.push_back(linear(layer + "attn.c_proj", hidden, hidden));
    layers.push_back(linear(layer + "mlp.c_fc", hidden, inner));
    layers.push_back(linear(layer + "mlp.c_proj", inner, hidden));
    layers.push_back({layer + "layer_norms", 4 * hidden});
  }
  return layers;
}

Layers bert_layers(const Numbers& config) {
  const std::int64_t hidden = config.at("hidden_size");
  Layers layers = {{"word_embeddings", config.at("vocab_size") * hidden},
                   {"position_embeddings", config.at("max_position_embeddings") * hidden},
                   {"token_type_embeddings", config.at("type_vocab_size") * hidden},
                   {"embeddings.LayerNorm", 2 * hidden},
                   linear("pooler", hidden, hidden)};
  for (std::int64_t i = 0; i < config.at("num_hidden_layers"); ++i) {
    const std::string layer = fmt::format("layer.{}.", i);
    for (const char* name : {"query", "key", "value", "attention.output"})
      layers.push_back(linear(layer + name, hidden, hidden));
    layers.push_back(linear(layer + "intermediate", hidden, config.at("intermediate_size")));
    layers.push_back(linear(layer + "output", config.at("intermediate_size"), hidden));
    layers.push_back({layer + "layer_norms", 4 * hidden});
  }
  return layers;
}

// Also mistral, and qwen2, whose queries, keys and values always have a bias.
Layers llama_layers(const Numbers& config, bool has_query_bias) {
  const std::int64_t hidden = config.at("hidden_size");
  const std::int64_t heads = std::max<std::int64_t>(config.at("num_attention_heads"), 1);
  const std::int64_t head_size = config.at_or("head_dim", hidden / heads);
  const std::int64_t key_size = config.at_or("num_key_value_heads", heads) * head_size;
  const std::int64_t inner = config.at("intermediate_size");
  const bool bias = config.is_on("attention_bias", false);
  Layers layers = {{"embed_tokens", config.at("vocab_size") * hidden}, {"norm", hidden}};
  if (!config.is_on("tie_word_embeddings", false))
    layers.push_back({"lm_head", config.at("vocab_size") * hidden});
  for (std::int64_t i = 0; i < config.at("num_hidden_layers"); ++i) {
    const std::string layer = fmt::format("layers.{}.", i);
    layers.push_back(linear(layer + "q_proj", hidden, heads * head_size, bias || has_query_bias));
    layers.push_back(linear(layer + "k_proj", hidden, key_size, bias || has_query_bias));
    layers.push_back(linear(layer + "v_proj", hidden, key_size, bias || has_query_bias));
    layers.push_back(linear(layer + "o_proj", heads * head_size, hidden, bias));
    for (const char* name : {"gate_proj", "up_proj"})
      layers.push_back(linear(layer + name, hidden, inner, config.is_on("mlp_bias", false)));
    layers.push_back(linear(layer + "down_proj", inner, hidden, config.is_on("mlp_bias", false)));
    layers.push_back({layer + "norms", 2 * hidden});
  }
  return layers;
}

std::int64_t numel_of(const std::vector<std::int64_t>& shape) {
  std::int64_t numel = 1;
  for (const std::int64_t size : shape) numel *= size;
  return numel;
}

Layers layers_of_weights(const std::vector<fs::path>& files) {
  std::map<std::string, std::int64_t> numels;
  for (const fs::path& file : files) {
    const SafetensorsReader reader(file);
    for (const auto& [name, entry] : reader.entries()) {
      const std::size_t dot = name.rfind('.');
      numels[dot == std::string::npos ? "" : name.substr(0, dot)] += numel_of(entry.shape);
    }
  }
  Layers layers;
  for (const auto& [name, numel] : numels) layers.push_back({name, numel});
  return layers;
}

}  // namespace

std::int64_t ModelSize::numel() const {
  std::int64_t total = 0;
  for (const ModelLayer& layer : layers) total += layer.numel;
  return total;
}

ModelLayer ModelSize::largest() const {
  const auto found = std::max_element(
      layers.begin(), layers.end(),
      [](const ModelLayer& one, const ModelLayer& other) { return one.numel < other.numel; });
  return found == layers.end() ? ModelLayer{} : *found;
}

std::vector<ModelLayer> layers_of_config(const std::string& text, const fs::path& source) {
  const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) refuse(source, "it is no JSON object");
  const auto type = config.find("model_type");
  const std::string kind = type != config.end() && type->is_string() ? type->get<std::string>() : "";
  const Numbers numbers(config, source);
  if (kind == "opt") return opt_layers(numbers);
  if (kind == "gpt2") return gpt2_layers(numbers);
  if (kind == "bert") return bert_layers(numbers);
  if (kind == "llama" || kind == "mistral") return llama_layers(numbers, false);
  if (kind == "qwen2") return llama_layers(numbers, true);
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: the size of a model of type \"{}\" is told by its weights only; put its "
                          "safetensors files beside it",
                          source.string(), kind));
}

std::vector<fs::path> weight_files(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kWeights, ignored)) return {folder / kWeights};
  const fs::path index_path = folder / kWeightsIndex;
  if (!fs::exists(index_path, ignored)) return {};
  const Json index = Json::parse(read_text(index_path), nullptr, /*allow_exceptions=*/false);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object()) refuse(index_path, "there is no \"weight_map\"");
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) refuse(index_path, fmt::format("the file of \"{}\" is no text", tensor));
    names.insert(file.get<std::string>());
  }
  std::vector<fs::path> files;
  for (const std::string& name : names) files.push_back(folder / name);
  return files;
}

ModelSize measure_model_folder(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    throw Error(ErrorCode::kNotFound, fmt::format("there is no folder {}", folder.string()));
  const std::vector<fs::path> files = weight_files(folder);
  if (!files.empty()) return {layers_of_weights(files), files.front()};
  const fs::path config = folder / kConfig;
  if (fs::exists(config, ignored)) return {layers_of_config(read_text(config), config), config};
  throw Error(ErrorCode::kNotFound, fmt::format("{}: there is neither {}, {} nor {} in it", folder.string(),
                                                kWeights, kWeightsIndex, kConfig));
}

}  // namespace deepscale
