// Llama (Touvron et al., 2023) and, with fused projections and dropout, Phi-3 (Abdin et al., 2024).
#include <torch/torch.h>

#include "runtime/models/families.h"
#include "runtime/models/layers.h"

namespace deepscale {
namespace {

// Rotates the first elements of each head, pairs being half of them apart.
at::Tensor rotate(const at::Tensor& heads, const ForwardContext& context) {
  const std::int64_t rotary_size = context.cosines.size(-1);
  const at::Tensor rotary = heads.narrow(-1, 0, rotary_size);
  const auto halves = rotary.chunk(2, -1);
  const at::Tensor rotated =
      rotary * context.cosines + at::cat({halves[1].neg(), halves[0]}, -1) * context.sines;
  if (rotary_size == heads.size(-1)) return rotated;
  return at::cat({rotated, heads.narrow(-1, rotary_size, heads.size(-1) - rotary_size)}, -1);
}

class LlamaAttention : public torch::nn::Module {
 public:
  LlamaAttention(const ModelConfig& config, std::int64_t layer) : config_(config), layer_(layer) {
    const bool has_bias = config.has_attention_bias;
    const std::int64_t query_size = config.attention_heads * config.head_size;
    const std::int64_t key_size = config.key_value_heads * config.head_size;
    const auto from_hidden = [&](const char* name, std::int64_t outputs) {
      return register_module(
          name, std::make_shared<Linear>(
                    Linear::Options{.inputs = config.hidden_size, .outputs = outputs, .has_bias = has_bias}));
    };
    if (config.architecture == Architecture::kPhi3) {
      qkv_proj_ = from_hidden("qkv_proj", query_size + 2 * key_size);
    } else {
      q_proj_ = from_hidden("q_proj", query_size);
      k_proj_ = from_hidden("k_proj", key_size);
      v_proj_ = from_hidden("v_proj", key_size);
    }
    o_proj_ = register_module(
        "o_proj", std::make_shared<Linear>(Linear::Options{
                      .inputs = query_size, .outputs = config.hidden_size, .has_bias = has_bias}));
  }

  at::Tensor forward(const at::Tensor& hidden, const ForwardContext& context) {
    auto [query, key, value] = project(hidden);
    query = rotate(split_heads(query, config_.attention_heads), context);
    key = rotate(split_heads(key, config_.key_value_heads), context);
    value = split_heads(value, config_.key_value_heads);
    if (context.cache != nullptr) std::tie(key, value) = context.cache->append(layer_, key, value);
    const at::Tensor attended = attend(query, key, value,
                                       {.allowed = context.allowed,
                                        .is_causal = context.is_causal,
                                        .dropout = is_training() ? config_.attention_dropout : 0.0});
    return o_proj_->forward(merge_heads(attended));
  }

 private:
  std::tuple<at::Tensor, at::Tensor, at::Tensor> project(const at::Tensor& hidden) {
    if (!qkv_proj_) return {q_proj_->forward(hidden), k_proj_->forward(hidden), v_proj_->forward(hidden)};
    const std::int64_t query_size = config_.attention_heads * config_.head_size;
    const std::int64_t key_size = config_.key_value_heads * config_.head_size;
    const auto parts = qkv_proj_->forward(hidden).split_with_sizes({query_size, key_size, key_size}, -1);
    return {parts[0], parts[1], parts[2]};
  }

  const ModelConfig& config_;
  std::int64_t layer_;
  std::shared_ptr<Linear> q_proj_, k_proj_, v_proj_, qkv_proj_, o_proj_;
};

class LlamaMlp : public torch::nn::Module {
 public:
  explicit LlamaMlp(const ModelConfig& config) : activation_(config.activation) {
    const auto linear = [&](const char* name, std::int64_t inputs, std::int64_t outputs) {
      return register_module(
          name, std::make_shared<Linear>(
                    Linear::Options{.inputs = inputs, .outputs = outputs, .has_bias = config.has_mlp_bias}));
    };
    if (config.architecture == Architecture::kPhi3) {
      gate_up_proj_ = linear("gate_up_proj", config.hidden_size, 2 * config.intermediate_size);
    } else {
      gate_proj_ = linear("gate_proj", config.hidden_size, config.intermediate_size);
      up_proj_ = linear("up_proj", config.hidden_size, config.intermediate_size);
    }
    down_proj_ = linear("down_proj", config.intermediate_size, config.hidden_size);
  }

  at::Tensor forward(const at::Tensor& hidden) {
    if (!gate_up_proj_) {
      return down_proj_->forward(activate(gate_proj_->forward(hidden), activation_) *
                                 up_proj_->forward(hidden));
    }
    const auto parts = gate_up_proj_->forward(hidden).chunk(2, -1);
    return down_proj_->forward(activate(parts[0], activation_) * parts[1]);
  }

 private:
  Activation activation_;
  std::shared_ptr<Linear> gate_proj_, up_proj_, gate_up_proj_, down_proj_;
};

class LlamaLayer : public torch::nn::Module {
 public:
  LlamaLayer(const ModelConfig& config, std::int64_t layer)
      : config_(config),
        self_attn_(register_module("self_attn", std::make_shared<LlamaAttention>(config, layer))),
        mlp_(register_module("mlp", std::make_shared<LlamaMlp>(config))),
        input_layernorm_(register_module("input_layernorm",
                                         std::make_shared<RmsNorm>(config.hidden_size, config.norm_epsilon))),
        post_attention_layernorm_(register_module(
            "post_attention_layernorm", std::make_shared<RmsNorm>(config.hidden_size, config.norm_epsilon))) {
  }

  at::Tensor forward(const at::Tensor& input, const ForwardContext& context) {
    const at::Tensor attended = self_attn_->forward(input_layernorm_->forward(input), context);
    const at::Tensor hidden = input + drop(attended, config_.dropout, is_training());
    const at::Tensor output = mlp_->forward(post_attention_layernorm_->forward(hidden));
    return hidden + drop(output, config_.dropout, is_training());
  }

 private:
  const ModelConfig& config_;
  std::shared_ptr<LlamaAttention> self_attn_;
  std::shared_ptr<LlamaMlp> mlp_;
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_;
};

struct LlamaTrunk : torch::nn::Module {
  explicit LlamaTrunk(const ModelConfig& config) {
    embed_tokens = register_module(
        "embed_tokens", std::make_shared<Embedding>(config.vocab_size, config.hidden_size, config.pad_token));
    layers = register_module("layers", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < config.layers; ++i)
      layers->push_back(std::make_shared<LlamaLayer>(config, i));
    norm = register_module("norm", std::make_shared<RmsNorm>(config.hidden_size, config.norm_epsilon));
  }

  std::shared_ptr<Embedding> embed_tokens;
  torch::nn::ModuleList layers;
  std::shared_ptr<RmsNorm> norm;
};

class Llama : public LanguageModel {
 public:
  explicit Llama(const ModelConfig& given) : LanguageModel(given) {
    model_ = register_module("model", std::make_shared<LlamaTrunk>(config()));
    if (config().ties_embeddings) return;
    lm_head_ = register_module(
        "lm_head", std::make_shared<Linear>(Linear::Options{
                       .inputs = config().hidden_size, .outputs = config().vocab_size, .has_bias = false}));
  }

  at::Tensor run_layer(std::int64_t index, const at::Tensor& hidden, ForwardContext& context) override {
    return model_->layers->at<LlamaLayer>(static_cast<std::size_t>(index)).forward(hidden, context);
  }
  at::Tensor head(const at::Tensor& hidden) override {
    const at::Tensor normed = model_->norm->forward(hidden);
    return lm_head_ ? lm_head_->forward(normed) : model_->embed_tokens->scores(normed);
  }
  std::shared_ptr<torch::nn::Module> layer(std::int64_t index) override {
    return model_->layers->ptr(static_cast<std::size_t>(index));
  }

 protected:
  at::Tensor embed_tokens(const at::Tensor& input_ids, const ForwardContext&) override {
    Embedding& table = *model_->embed_tokens;
    const at::Tensor words = lm_head_ ? table.forward(input_ids) : table.forward_tied(input_ids);
    return drop(words, config().embedding_dropout, is_training());
  }

 private:
  std::shared_ptr<LlamaTrunk> model_;
  std::shared_ptr<Linear> lm_head_;
};

}  // namespace

std::shared_ptr<LanguageModel> make_llama(const ModelConfig& config) {
  return std::make_shared<Llama>(config);
}

}  // namespace deepscale
