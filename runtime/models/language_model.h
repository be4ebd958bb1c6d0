// A decoder that predicts the next token: Llama, Phi-3, OPT, GPT-2 behind one interface.
//
//   auto model = language_model_from_pretrained("models/opt-125m");
//   at::Tensor logits = model->forward(input_ids);            // [batch, sequence, vocabulary]
//
// forward() is embed(), then run_layer() for each layer, then head(). Who streams layers from elsewhere, or
// offloads them, writes that loop itself; what the layers of one pass share is in a ForwardContext. It is an
// ordinary torch::nn::Module: its parameters have Hugging Face's names, and any ZeRO stage takes it as it is.
//
// input_ids are int64 [batch, sequence]; attention_mask is [batch, keys], 0 for padding, where keys counts
// what a cache holds, too. Padding may be on the left (to generate) or on the right (to train).
//
// One thread. Error(kInvalidArgument) for more tokens than the model has positions, and (on the CPU) for a
// token outside the vocabulary; else what LibTorch throws.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "runtime/pretrained/model_config.h"

namespace deepscale {

// Keys and values of the tokens that the model saw before.
class KeyValueCache {
 public:
  virtual ~KeyValueCache() = default;
  // Tokens of the passes that ended.
  virtual std::int64_t length() const = 0;
  // Adds those of this pass, [batch, key-value heads, new tokens, head size], and returns all of that layer.
  virtual std::pair<at::Tensor, at::Tensor> append(std::int64_t layer, const at::Tensor& key,
                                                   const at::Tensor& value) = 0;
  // The pass ended; all layers got that many.
  virtual void advance(std::int64_t tokens) = 0;
};

// What the layers of one pass share. The caller gives the first two, embed() fills in the rest.
struct ForwardContext {
  at::Tensor attention_mask;
  KeyValueCache* cache = nullptr;  // not owned

  at::Tensor positions;       // int64 [batch or 1, sequence]
  at::Tensor allowed;         // as AttentionOptions
  bool is_causal = false;     // likewise
  at::Tensor cosines, sines;  // of the rotary embedding, [batch or 1, 1, sequence, rotary size]
};

class LanguageModel : public torch::nn::Module {
 public:
  explicit LanguageModel(ModelConfig config) : config_(std::move(config)) {}

  at::Tensor forward(at::Tensor input_ids, at::Tensor attention_mask = {});
  // The logits of the last token alone, [batch, 1, vocabulary].
  at::Tensor forward_cached(const at::Tensor& input_ids, KeyValueCache& cache,
                            const at::Tensor& attention_mask = {});

  at::Tensor embed(const at::Tensor& input_ids, ForwardContext& context);
  virtual at::Tensor run_layer(std::int64_t layer, const at::Tensor& hidden, ForwardContext& context) = 0;
  virtual at::Tensor head(const at::Tensor& hidden) = 0;
  // The module with the parameters of one layer, of the embeddings, or of the head.
  virtual std::shared_ptr<torch::nn::Module> layer(std::int64_t index) = 0;

  const ModelConfig& config() const { return config_; }

 protected:
  virtual at::Tensor embed_tokens(const at::Tensor& input_ids, const ForwardContext& context) = 0;

  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())})

 private:
  void place(const at::Tensor& input_ids, ForwardContext& context) const;
  void rotate(const at::Tensor& like, std::int64_t length, ForwardContext& context) const;

  ModelConfig config_;
};

// A model of that shape without values. Error(kUnsupported) for an architecture that predicts no next token.
std::shared_ptr<LanguageModel> make_language_model(const ModelConfig& config);

// Random values as the architecture's authors draw them, from torch::manual_seed()'s generator.
void initialize_weights(torch::nn::Module& model, const ModelConfig& config);

// Mean cross entropy of the tokens that follow. `labels` [batch, sequence] are the input's own tokens, or
// kIgnoredLabel where they do not count (padding, a prompt). In fp32.
inline constexpr std::int64_t kIgnoredLabel = -100;
at::Tensor next_token_loss(const at::Tensor& logits, const at::Tensor& labels);

}  // namespace deepscale
