// GPT-2 (Radford et al., 2019). Its files keep the weights of linear layers as [inputs, outputs].
#include <torch/torch.h>

#include "runtime/models/families.h"
#include "runtime/models/layers.h"

namespace deepscale {
namespace {

std::shared_ptr<Linear> input_major(std::int64_t inputs, std::int64_t outputs) {
  return std::make_shared<Linear>(
      Linear::Options{.inputs = inputs, .outputs = outputs, .is_input_major = true});
}

class Gpt2Attention : public torch::nn::Module {
 public:
  Gpt2Attention(const ModelConfig& config, std::int64_t layer)
      : config_(config),
        layer_(layer),
        c_attn_(register_module("c_attn", input_major(config.hidden_size, 3 * config.hidden_size))),
        c_proj_(register_module("c_proj", input_major(config.hidden_size, config.hidden_size))) {}

  at::Tensor forward(const at::Tensor& hidden, const ForwardContext& context) {
    const auto parts = c_attn_->forward(hidden).chunk(3, -1);
    const at::Tensor query = split_heads(parts[0], config_.attention_heads);
    at::Tensor key = split_heads(parts[1], config_.attention_heads);
    at::Tensor value = split_heads(parts[2], config_.attention_heads);
    if (context.cache != nullptr) std::tie(key, value) = context.cache->append(layer_, key, value);
    const at::Tensor attended = attend(query, key, value,
                                       {.allowed = context.allowed,
                                        .is_causal = context.is_causal,
                                        .dropout = is_training() ? config_.attention_dropout : 0.0});
    return c_proj_->forward(merge_heads(attended));
  }

 private:
  const ModelConfig& config_;
  std::int64_t layer_;
  std::shared_ptr<Linear> c_attn_, c_proj_;
};

class Gpt2Mlp : public torch::nn::Module {
 public:
  explicit Gpt2Mlp(const ModelConfig& config)
      : activation_(config.activation),
        c_fc_(register_module("c_fc", input_major(config.hidden_size, config.intermediate_size))),
        c_proj_(register_module("c_proj", input_major(config.intermediate_size, config.hidden_size))) {}

  at::Tensor forward(const at::Tensor& hidden) {
    return c_proj_->forward(activate(c_fc_->forward(hidden), activation_));
  }

 private:
  Activation activation_;
  std::shared_ptr<Linear> c_fc_, c_proj_;
};

class Gpt2Layer : public torch::nn::Module {
 public:
  Gpt2Layer(const ModelConfig& config, std::int64_t layer)
      : config_(config),
        ln_1_(register_module("ln_1", std::make_shared<LayerNorm>(config.hidden_size, config.norm_epsilon))),
        attn_(register_module("attn", std::make_shared<Gpt2Attention>(config, layer))),
        ln_2_(register_module("ln_2", std::make_shared<LayerNorm>(config.hidden_size, config.norm_epsilon))),
        mlp_(register_module("mlp", std::make_shared<Gpt2Mlp>(config))) {}

  at::Tensor forward(const at::Tensor& input, const ForwardContext& context) {
    const at::Tensor attended = attn_->forward(ln_1_->forward(input), context);
    const at::Tensor hidden = input + drop(attended, config_.dropout, is_training());
    return hidden + drop(mlp_->forward(ln_2_->forward(hidden)), config_.dropout, is_training());
  }

 private:
  const ModelConfig& config_;
  std::shared_ptr<LayerNorm> ln_1_;
  std::shared_ptr<Gpt2Attention> attn_;
  std::shared_ptr<LayerNorm> ln_2_;
  std::shared_ptr<Gpt2Mlp> mlp_;
};

struct Gpt2Body : torch::nn::Module {
  explicit Gpt2Body(const ModelConfig& config) {
    wte = register_module("wte", std::make_shared<Embedding>(config.vocab_size, config.hidden_size));
    wpe = register_module("wpe", std::make_shared<Embedding>(config.max_positions, config.hidden_size));
    h = register_module("h", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < config.layers; ++i) h->push_back(std::make_shared<Gpt2Layer>(config, i));
    ln_f = register_module("ln_f", std::make_shared<LayerNorm>(config.hidden_size, config.norm_epsilon));
  }

  std::shared_ptr<Embedding> wte, wpe;
  torch::nn::ModuleList h;
  std::shared_ptr<LayerNorm> ln_f;
};

class Gpt2 : public LanguageModel {
 public:
  explicit Gpt2(const ModelConfig& given) : LanguageModel(given) {
    transformer_ = register_module("transformer", std::make_shared<Gpt2Body>(config()));
    if (config().ties_embeddings) return;
    lm_head_ = register_module(
        "lm_head", std::make_shared<Linear>(Linear::Options{
                       .inputs = config().hidden_size, .outputs = config().vocab_size, .has_bias = false}));
  }

  at::Tensor run_layer(std::int64_t index, const at::Tensor& hidden, ForwardContext& context) override {
    return transformer_->h->at<Gpt2Layer>(static_cast<std::size_t>(index)).forward(hidden, context);
  }
  at::Tensor head(const at::Tensor& hidden) override {
    const at::Tensor normed = transformer_->ln_f->forward(hidden);
    return lm_head_ ? lm_head_->forward(normed) : transformer_->wte->scores(normed);
  }
  std::shared_ptr<torch::nn::Module> layer(std::int64_t index) override {
    return transformer_->h->ptr(static_cast<std::size_t>(index));
  }

 protected:
  at::Tensor embed_tokens(const at::Tensor& input_ids, const ForwardContext& context) override {
    Embedding& table = *transformer_->wte;
    const at::Tensor words = lm_head_ ? table.forward(input_ids) : table.forward_tied(input_ids);
    const at::Tensor embedded = words + transformer_->wpe->forward(context.positions);
    return drop(embedded, config().embedding_dropout, is_training());
  }

 private:
  std::shared_ptr<Gpt2Body> transformer_;
  std::shared_ptr<Linear> lm_head_;
};

}  // namespace

std::shared_ptr<LanguageModel> make_gpt2(const ModelConfig& config) {
  return std::make_shared<Gpt2>(config);
}

}  // namespace deepscale
