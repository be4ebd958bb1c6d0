#include "runtime/pretrained/model_config.h"

#include <fmt/core.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "comm/base/error.h"
#include "runtime/pretrained/config_fields.h"
#include "runtime/pretrained/text_file.h"

namespace deepscale {
namespace {

Activation read_activation(const ConfigFields& fields, const std::string& key, const std::string& fallback) {
  static const std::map<std::string, Activation> known = {
      {"relu", Activation::kRelu},          {"gelu", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh},  {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"silu", Activation::kSilu},
      {"swish", Activation::kSilu}};
  const std::string name = fields.text(key, fallback);
  const auto found = known.find(name);
  if (found == known.end()) fields.unsupported(key, fmt::format("no activation '{}' here", name));
  return found->second;
}

void read_long_factors(const ConfigFields& scaling, RopeConfig& rope) {
  rope.scaling = RopeConfig::Scaling::kLong;
  rope.short_factors = scaling.numbers("short_factor");
  rope.long_factors = scaling.numbers("long_factor");
  rope.attention_factor = scaling.number("attention_factor", 0.0);
  rope.factor = scaling.number("factor", 0.0);
  for (const double factor : rope.short_factors) {
    if (!(factor > 0.0)) scaling.fail("short_factor", "expected numbers above 0");
  }
  for (const double factor : rope.long_factors) {
    if (!(factor > 0.0)) scaling.fail("long_factor", "expected numbers above 0");
  }
}

// transformers 4 has rope_theta beside rope_scaling, transformers 5 has both in rope_parameters.
RopeConfig read_rope(const ConfigFields& fields) {
  const bool is_new = fields.has("rope_parameters");
  const ConfigFields scaling = fields.section(is_new ? "rope_parameters" : "rope_scaling");
  RopeConfig rope;
  rope.theta = (is_new ? scaling : fields).number("rope_theta", 10000.0);
  rope.rotary_fraction = fields.number("partial_rotary_factor", scaling.number("partial_rotary_factor", 1.0));
  rope.original_max_positions = scaling.integer("original_max_position_embeddings",
                                                fields.integer("original_max_position_embeddings", 0));
  if (!(rope.theta > 1.0)) fields.fail("rope_theta", "expected a number above 1");
  if (!(rope.rotary_fraction > 0.0 && rope.rotary_fraction <= 1.0)) {
    fields.fail("partial_rotary_factor", "expected a number from 0 to 1");
  }
  const std::string type = scaling.text("rope_type", scaling.text("type", "default"));
  if (type == "default") return rope;
  if (type == "longrope" || type == "su") {
    read_long_factors(scaling, rope);
    return rope;
  }
  if (type != "linear" && type != "llama3") {
    scaling.unsupported("rope_type",
                        fmt::format("no rotary scaling '{}' here; there are linear, llama3, longrope", type));
  }
  rope.factor = scaling.number("factor", 1.0);
  if (!(rope.factor >= 1.0)) scaling.fail("factor", "expected a number of at least 1");
  rope.scaling = type == "linear" ? RopeConfig::Scaling::kLinear : RopeConfig::Scaling::kLlama3;
  rope.low_frequency_factor = scaling.number("low_freq_factor", 1.0);
  rope.high_frequency_factor = scaling.number("high_freq_factor", 4.0);
  if (!(rope.low_frequency_factor > 0.0 && rope.high_frequency_factor > rope.low_frequency_factor)) {
    scaling.fail("high_freq_factor", "expected more than low_freq_factor, and that more than 0");
  }
  return rope;
}

void read_attention_sizes(const ConfigFields& fields, ModelConfig& config) {
  config.attention_heads = fields.required("num_attention_heads");
  config.key_value_heads = fields.integer("num_key_value_heads", config.attention_heads, 1);
  config.head_size = fields.integer("head_dim", config.hidden_size / config.attention_heads, 1);
}

void read_llama(const ConfigFields& fields, ModelConfig& config) {
  const bool is_phi3 = config.architecture == Architecture::kPhi3;
  config.hidden_size = fields.required("hidden_size");
  config.intermediate_size = fields.required("intermediate_size");
  config.layers = fields.required("num_hidden_layers");
  config.max_positions = fields.integer("max_position_embeddings", is_phi3 ? 4096 : 2048, 1);
  read_attention_sizes(fields, config);
  config.activation = read_activation(fields, "hidden_act", "silu");
  config.norm_epsilon = fields.number("rms_norm_eps", is_phi3 ? 1e-5 : 1e-6);
  config.sliding_window = fields.integer("sliding_window", 0);
  config.has_attention_bias = fields.boolean("attention_bias", false);
  config.has_mlp_bias = fields.boolean("mlp_bias", false);
  config.attention_dropout = fields.number("attention_dropout", 0.0);
  config.dropout = fields.number("resid_pdrop", 0.0);
  config.embedding_dropout = fields.number("embd_pdrop", 0.0);
  config.rope = read_rope(fields);
  const std::int64_t rotary_size =
      static_cast<std::int64_t>(static_cast<double>(config.head_size) * config.rope.rotary_fraction);
  if (rotary_size % 2 != 0) fields.fail("head_dim", "the rotary part of a head is of an odd size");
  if (config.rope.scaling == RopeConfig::Scaling::kLlama3 && config.rope.original_max_positions == 0) {
    fields.fail("original_max_position_embeddings", "missing");
  }
  if (config.rope.scaling != RopeConfig::Scaling::kLong) return;
  if (config.rope.original_max_positions == 0) config.rope.original_max_positions = config.max_positions;
  for (const auto* factors : {&config.rope.short_factors, &config.rope.long_factors}) {
    if (static_cast<std::int64_t>(factors->size()) != rotary_size / 2) {
      fields.fail("rope_scaling",
                  fmt::format("expected {} factors, got {}", rotary_size / 2, factors->size()));
    }
  }
}

void read_opt(const ConfigFields& fields, ModelConfig& config) {
  config.hidden_size = fields.required("hidden_size");
  config.intermediate_size = fields.required("ffn_dim");
  config.layers = fields.required("num_hidden_layers");
  config.max_positions = fields.integer("max_position_embeddings", 2048, 1);
  read_attention_sizes(fields, config);
  config.activation = read_activation(fields, "activation_function", "relu");
  config.has_attention_bias = config.has_mlp_bias = fields.boolean("enable_bias", true);
  config.word_embedding_size = fields.integer("word_embed_proj_dim", config.hidden_size, 1);
  config.norm_before_block = fields.boolean("do_layer_norm_before", true);
  config.has_final_norm = config.norm_before_block && !fields.boolean("_remove_final_layer_norm", false);
  config.dropout = fields.number("dropout", 0.1);
  config.attention_dropout = fields.number("attention_dropout", 0.0);
  config.initializer_range = fields.number("init_std", 0.02);
  if (!fields.boolean("layer_norm_elementwise_affine", true)) {
    fields.unsupported("layer_norm_elementwise_affine", "layer norms without weights are not here");
  }
}

void read_gpt2(const ConfigFields& fields, ModelConfig& config) {
  config.hidden_size = fields.integer("n_embd", 768, 1);
  config.layers = fields.integer("n_layer", 12, 1);
  config.attention_heads = config.key_value_heads = fields.integer("n_head", 12, 1);
  config.head_size = config.hidden_size / config.attention_heads;
  config.intermediate_size = fields.integer("n_inner", 4 * config.hidden_size, 1);
  config.max_positions = fields.integer("n_positions", 1024, 1);
  config.activation = read_activation(fields, "activation_function", "gelu_new");
  config.norm_epsilon = fields.number("layer_norm_epsilon", 1e-5);
  config.has_attention_bias = config.has_mlp_bias = true;
  config.dropout = fields.number("resid_pdrop", 0.1);
  config.attention_dropout = fields.number("attn_pdrop", 0.1);
  config.embedding_dropout = fields.number("embd_pdrop", 0.1);
  if (!fields.boolean("scale_attn_weights", true) ||
      fields.boolean("scale_attn_by_inverse_layer_idx", false)) {
    fields.unsupported("scale_attn_weights", "only attention scaled by the size of a head is here");
  }
}

void read_bert(const ConfigFields& fields, ModelConfig& config) {
  config.hidden_size = fields.required("hidden_size");
  config.intermediate_size = fields.required("intermediate_size");
  config.layers = fields.required("num_hidden_layers");
  config.max_positions = fields.integer("max_position_embeddings", 512, 1);
  read_attention_sizes(fields, config);
  config.activation = read_activation(fields, "hidden_act", "gelu");
  config.norm_epsilon = fields.number("layer_norm_eps", 1e-12);
  config.has_attention_bias = config.has_mlp_bias = true;
  config.dropout = config.embedding_dropout = fields.number("hidden_dropout_prob", 0.1);
  config.attention_dropout = fields.number("attention_probs_dropout_prob", 0.1);
  config.token_types = fields.integer("type_vocab_size", 2, 1);
  if (fields.text("position_embedding_type", "absolute") != "absolute") {
    fields.unsupported("position_embedding_type", "only absolute positions are here");
  }
  if (fields.boolean("is_decoder", false)) fields.unsupported("is_decoder", "only BERT the encoder is here");
}

struct Family {
  Architecture architecture;
  void (*read)(const ConfigFields&, ModelConfig&);
  bool ties_embeddings;  // where the file does not say
};

const std::map<std::string, Family>& families() {
  static const std::map<std::string, Family> all = {{"llama", {Architecture::kLlama, &read_llama, false}},
                                                    {"mistral", {Architecture::kLlama, &read_llama, false}},
                                                    {"phi3", {Architecture::kPhi3, &read_llama, false}},
                                                    {"opt", {Architecture::kOpt, &read_opt, true}},
                                                    {"gpt2", {Architecture::kGpt2, &read_gpt2, true}},
                                                    {"bert", {Architecture::kBert, &read_bert, true}}};
  return all;
}

void check_heads(const ConfigFields& fields, const ModelConfig& config) {
  if (config.attention_heads % config.key_value_heads != 0) {
    fields.fail("num_key_value_heads", fmt::format("{} do not divide {} attention heads",
                                                   config.key_value_heads, config.attention_heads));
  }
  if (config.architecture != Architecture::kLlama && config.architecture != Architecture::kPhi3 &&
      config.hidden_size % config.attention_heads != 0) {
    fields.fail("num_attention_heads", fmt::format("{} do not divide a hidden size of {}",
                                                   config.attention_heads, config.hidden_size));
  }
}

}  // namespace

ModelConfig parse_model_config(std::string_view text, std::string_view name) {
  const nlohmann::json json = parse_json_object(text, name);
  const ConfigFields fields(json, std::string(name));
  ModelConfig config;
  config.source = std::string(text);
  config.model_type = fields.text("model_type", "");
  const auto family = families().find(config.model_type);
  if (family == families().end()) {
    std::string known;
    for (const auto& [type, ignored] : families()) known += (known.empty() ? "" : ", ") + type;
    fields.unsupported("model_type",
                       fmt::format("no architecture '{}' here; there are {}", config.model_type, known));
  }
  config.architecture = family->second.architecture;
  config.heads_in_file = fields.texts("architectures");
  config.vocab_size = fields.required("vocab_size");
  config.ties_embeddings = fields.boolean("tie_word_embeddings", family->second.ties_embeddings);
  config.initializer_range = fields.number("initializer_range", 0.02);
  family->second.read(fields, config);
  check_heads(fields, config);
  config.pad_token = fields.integer("pad_token_id", -1, -1);
  const auto begin = fields.integer_or_list("bos_token_id");
  config.begin_token = begin.empty() ? -1 : begin.front();
  config.end_tokens = fields.integer_or_list("eos_token_id");
  return config;
}

ModelConfig read_model_config(const std::filesystem::path& directory) {
  const auto path = directory / "config.json";
  return parse_model_config(read_text_file(path, "the folder of a model in Hugging Face's format has one"),
                            path.string());
}

const char* architecture_name(Architecture architecture) {
  switch (architecture) {
    case Architecture::kLlama:
      return "Llama";
    case Architecture::kPhi3:
      return "Phi-3";
    case Architecture::kOpt:
      return "OPT";
    case Architecture::kGpt2:
      return "GPT-2";
    case Architecture::kBert:
      return "BERT";
  }
  return "?";
}

}  // namespace deepscale
