// OPT (Zhang et al., 2022), with the two peculiarities of its 350M: norms behind the blocks, and word
// embeddings smaller than the hidden size.
#include <torch/torch.h>

#include "runtime/models/families.h"
#include "runtime/models/layers.h"

namespace deepscale {
namespace {

constexpr std::int64_t kPositionOffset = 2;  // rows of the table that no token uses

class OptAttention : public torch::nn::Module {
 public:
  OptAttention(const ModelConfig& config, std::int64_t layer) : config_(config), layer_(layer) {
    const auto linear = [&](const char* name) {
      return register_module(
          name, std::make_shared<Linear>(Linear::Options{.inputs = config.hidden_size,
                                                         .outputs = config.hidden_size,
                                                         .has_bias = config.has_attention_bias}));
    };
    k_proj_ = linear("k_proj");
    v_proj_ = linear("v_proj");
    q_proj_ = linear("q_proj");
    out_proj_ = linear("out_proj");
  }

  at::Tensor forward(const at::Tensor& hidden, const ForwardContext& context) {
    const at::Tensor query = split_heads(q_proj_->forward(hidden), config_.attention_heads);
    at::Tensor key = split_heads(k_proj_->forward(hidden), config_.attention_heads);
    at::Tensor value = split_heads(v_proj_->forward(hidden), config_.attention_heads);
    if (context.cache != nullptr) std::tie(key, value) = context.cache->append(layer_, key, value);
    const at::Tensor attended = attend(query, key, value,
                                       {.allowed = context.allowed,
                                        .is_causal = context.is_causal,
                                        .dropout = is_training() ? config_.attention_dropout : 0.0});
    return out_proj_->forward(merge_heads(attended));
  }

 private:
  const ModelConfig& config_;
  std::int64_t layer_;
  std::shared_ptr<Linear> k_proj_, v_proj_, q_proj_, out_proj_;
};

class OptLayer : public torch::nn::Module {
 public:
  OptLayer(const ModelConfig& config, std::int64_t layer) : config_(config) {
    const auto norm = [&](const char* name) {
      return register_module(name, std::make_shared<LayerNorm>(config.hidden_size, config.norm_epsilon));
    };
    const auto linear = [&](const char* name, std::int64_t inputs, std::int64_t outputs) {
      return register_module(
          name, std::make_shared<Linear>(
                    Linear::Options{.inputs = inputs, .outputs = outputs, .has_bias = config.has_mlp_bias}));
    };
    self_attn_ = register_module("self_attn", std::make_shared<OptAttention>(config, layer));
    self_attn_layer_norm_ = norm("self_attn_layer_norm");
    fc1_ = linear("fc1", config.hidden_size, config.intermediate_size);
    fc2_ = linear("fc2", config.intermediate_size, config.hidden_size);
    final_layer_norm_ = norm("final_layer_norm");
  }

  at::Tensor forward(const at::Tensor& input, const ForwardContext& context) {
    const at::Tensor attended = self_attn_->forward(before(*self_attn_layer_norm_, input), context);
    const at::Tensor hidden =
        after(*self_attn_layer_norm_, input + drop(attended, config_.dropout, is_training()));
    const at::Tensor inner = activate(fc1_->forward(before(*final_layer_norm_, hidden)), config_.activation);
    return after(*final_layer_norm_, hidden + drop(fc2_->forward(inner), config_.dropout, is_training()));
  }

 private:
  at::Tensor before(LayerNorm& norm, const at::Tensor& input) const {
    return config_.norm_before_block ? norm.forward(input) : input;
  }
  at::Tensor after(LayerNorm& norm, const at::Tensor& output) const {
    return config_.norm_before_block ? output : norm.forward(output);
  }

  const ModelConfig& config_;
  std::shared_ptr<OptAttention> self_attn_;
  std::shared_ptr<LayerNorm> self_attn_layer_norm_, final_layer_norm_;
  std::shared_ptr<Linear> fc1_, fc2_;
};

struct OptDecoder : torch::nn::Module {
  explicit OptDecoder(const ModelConfig& config) {
    embed_tokens = register_module(
        "embed_tokens",
        std::make_shared<Embedding>(config.vocab_size, config.word_embedding_size, config.pad_token));
    embed_positions = register_module(
        "embed_positions",
        std::make_shared<Embedding>(config.max_positions + kPositionOffset, config.hidden_size));
    if (config.word_embedding_size != config.hidden_size) {
      project_out = register_module(
          "project_out",
          std::make_shared<Linear>(Linear::Options{
              .inputs = config.hidden_size, .outputs = config.word_embedding_size, .has_bias = false}));
      project_in = register_module(
          "project_in",
          std::make_shared<Linear>(Linear::Options{
              .inputs = config.word_embedding_size, .outputs = config.hidden_size, .has_bias = false}));
    }
    if (config.has_final_norm) {
      final_layer_norm = register_module(
          "final_layer_norm", std::make_shared<LayerNorm>(config.hidden_size, config.norm_epsilon));
    }
    layers = register_module("layers", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < config.layers; ++i) layers->push_back(std::make_shared<OptLayer>(config, i));
  }

  std::shared_ptr<Embedding> embed_tokens, embed_positions;
  std::shared_ptr<Linear> project_in, project_out;
  std::shared_ptr<LayerNorm> final_layer_norm;
  torch::nn::ModuleList layers;
};

struct OptBody : torch::nn::Module {
  explicit OptBody(const ModelConfig& config)
      : decoder(register_module("decoder", std::make_shared<OptDecoder>(config))) {}
  std::shared_ptr<OptDecoder> decoder;
};

class Opt : public LanguageModel {
 public:
  explicit Opt(const ModelConfig& given) : LanguageModel(given) {
    model_ = register_module("model", std::make_shared<OptBody>(config()));
    if (config().ties_embeddings) return;
    lm_head_ = register_module(
        "lm_head",
        std::make_shared<Linear>(Linear::Options{
            .inputs = config().word_embedding_size, .outputs = config().vocab_size, .has_bias = false}));
  }

  at::Tensor run_layer(std::int64_t index, const at::Tensor& hidden, ForwardContext& context) override {
    return decoder().layers->at<OptLayer>(static_cast<std::size_t>(index)).forward(hidden, context);
  }
  at::Tensor head(const at::Tensor& input) override {
    at::Tensor hidden = input;
    if (decoder().final_layer_norm) hidden = decoder().final_layer_norm->forward(hidden);
    if (decoder().project_out) hidden = decoder().project_out->forward(hidden);
    return lm_head_ ? lm_head_->forward(hidden) : decoder().embed_tokens->scores(hidden);
  }
  std::shared_ptr<torch::nn::Module> layer(std::int64_t index) override {
    return decoder().layers->ptr(static_cast<std::size_t>(index));
  }

 protected:
  at::Tensor embed_tokens(const at::Tensor& input_ids, const ForwardContext& context) override {
    Embedding& table = *decoder().embed_tokens;
    at::Tensor words = lm_head_ ? table.forward(input_ids) : table.forward_tied(input_ids);
    if (decoder().project_in) words = decoder().project_in->forward(words);
    return words + decoder().embed_positions->forward(context.positions + kPositionOffset);
  }

 private:
  OptDecoder& decoder() { return *model_->decoder; }

  std::shared_ptr<OptBody> model_;
  std::shared_ptr<Linear> lm_head_;
};

}  // namespace

std::shared_ptr<LanguageModel> make_opt(const ModelConfig& config) {
  return std::make_shared<Opt>(config);
}

}  // namespace deepscale
