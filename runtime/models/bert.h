// BERT (Devlin et al., 2019): the encoder, and the encoder with the head that fills in masked words.
//
// input_ids and token_types are int64 [batch, sequence], attention_mask is 0 for padding; undefined: no
// padding, and all of type 0. An ordinary torch::nn::Module with Hugging Face's parameter names, so any ZeRO
// stage takes it. One thread. Error(kInvalidArgument) for more tokens than there are positions and (on the
// CPU) for tokens outside the vocabulary.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>

#include <filesystem>
#include <memory>

#include "runtime/models/pretrained.h"
#include "runtime/pretrained/model_config.h"

namespace deepscale {

class Bert : public torch::nn::Module {
 public:
  explicit Bert(ModelConfig config);

  // The last layer's hidden states, [batch, sequence, hidden].
  at::Tensor forward(at::Tensor input_ids, at::Tensor attention_mask = {}, at::Tensor token_types = {});
  const ModelConfig& config() const { return config_; }

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())}, {2, torch::nn::AnyValue(at::Tensor())})

 private:
  friend class BertForMaskedLm;
  struct Embeddings;
  struct Encoder;

  ModelConfig config_;
  std::shared_ptr<Embeddings> embeddings_;
  std::shared_ptr<Encoder> encoder_;
};

class BertForMaskedLm : public torch::nn::Module {
 public:
  explicit BertForMaskedLm(const ModelConfig& config);

  // Without labels the logits, [batch, sequence, vocabulary]. With labels, [batch, sequence] and
  // kIgnoredLabel where nothing was masked, the mean cross entropy of the others; the head sees these alone,
  // which is most of its work saved.
  at::Tensor forward(at::Tensor input_ids, at::Tensor attention_mask = {}, at::Tensor labels = {});
  const ModelConfig& config() const { return bert_->config(); }

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())}, {2, torch::nn::AnyValue(at::Tensor())})

 private:
  struct Head;

  std::shared_ptr<Bert> bert_;
  std::shared_ptr<Head> cls_;
};

// Error(kInvalidArgument) for a folder of another architecture.
std::shared_ptr<Bert> bert_from_pretrained(const std::filesystem::path& directory,
                                           const LoadOptions& options = {});
std::shared_ptr<BertForMaskedLm> masked_lm_from_pretrained(const std::filesystem::path& directory,
                                                           const LoadOptions& options = {});

}  // namespace deepscale
