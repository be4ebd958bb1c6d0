#include "runtime/models/bert.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include "comm/base/error.h"
#include "runtime/models/layers.h"
#include "runtime/models/linear_product.h"
#include "runtime/models/log_probabilities.h"
#include "runtime/models/token_check.h"

namespace deepscale {
namespace {

std::shared_ptr<Linear> dense(std::int64_t inputs, std::int64_t outputs) {
  return std::make_shared<Linear>(Linear::Options{.inputs = inputs, .outputs = outputs});
}

std::shared_ptr<LayerNorm> norm_of(const ModelConfig& config) {
  return std::make_shared<LayerNorm>(config.hidden_size, config.norm_epsilon);
}

struct SelfAttention : torch::nn::Module {
  explicit SelfAttention(const ModelConfig& config)
      : config(config),
        query(register_module("query", dense(config.hidden_size, config.hidden_size))),
        key(register_module("key", dense(config.hidden_size, config.hidden_size))),
        value(register_module("value", dense(config.hidden_size, config.hidden_size))) {}

  at::Tensor forward(const at::Tensor& hidden, const at::Tensor& allowed) {
    const auto heads = [&](Linear& linear) {
      return split_heads(linear.forward(hidden), config.attention_heads);
    };
    return merge_heads(
        attend(heads(*query), heads(*key), heads(*value),
               {.allowed = allowed, .dropout = is_training() ? config.attention_dropout : 0.0}));
  }

  const ModelConfig& config;
  std::shared_ptr<Linear> query, key, value;
};

// A linear layer whose output is added to what went into the block.
struct Addition : torch::nn::Module {
  Addition(const ModelConfig& config, std::int64_t inputs)
      : config(config),
        linear(register_module("dense", dense(inputs, config.hidden_size))),
        norm(register_module("LayerNorm", norm_of(config))) {}

  at::Tensor forward(const at::Tensor& output, const at::Tensor& input) {
    return norm->forward(drop(linear->forward(output), config.dropout, is_training()) + input);
  }

  const ModelConfig& config;
  std::shared_ptr<Linear> linear;
  std::shared_ptr<LayerNorm> norm;
};

struct Attention : torch::nn::Module {
  explicit Attention(const ModelConfig& config)
      : self(register_module("self", std::make_shared<SelfAttention>(config))),
        output(register_module("output", std::make_shared<Addition>(config, config.hidden_size))) {}

  at::Tensor forward(const at::Tensor& hidden, const at::Tensor& allowed) {
    return output->forward(self->forward(hidden, allowed), hidden);
  }

  std::shared_ptr<SelfAttention> self;
  std::shared_ptr<Addition> output;
};

struct Intermediate : torch::nn::Module {
  explicit Intermediate(const ModelConfig& config)
      : linear(register_module("dense", dense(config.hidden_size, config.intermediate_size))),
        activation(config.activation) {}

  at::Tensor forward(const at::Tensor& hidden) { return activate(linear->forward(hidden), activation); }

  std::shared_ptr<Linear> linear;
  Activation activation;
};

struct Layer : torch::nn::Module {
  explicit Layer(const ModelConfig& config)
      : attention(register_module("attention", std::make_shared<Attention>(config))),
        intermediate(register_module("intermediate", std::make_shared<Intermediate>(config))),
        output(register_module("output", std::make_shared<Addition>(config, config.intermediate_size))) {}

  at::Tensor forward(const at::Tensor& input, const at::Tensor& allowed) {
    const at::Tensor hidden = attention->forward(input, allowed);
    return output->forward(intermediate->forward(hidden), hidden);
  }

  std::shared_ptr<Attention> attention;
  std::shared_ptr<Intermediate> intermediate;
  std::shared_ptr<Addition> output;
};

struct Transform : torch::nn::Module {
  explicit Transform(const ModelConfig& config)
      : linear(register_module("dense", dense(config.hidden_size, config.hidden_size))),
        norm(register_module("LayerNorm", norm_of(config))),
        activation(config.activation) {}

  at::Tensor forward(const at::Tensor& hidden) {
    return norm->forward(activate(linear->forward(hidden), activation));
  }

  std::shared_ptr<Linear> linear;
  std::shared_ptr<LayerNorm> norm;
  Activation activation;
};

struct Predictions : torch::nn::Module {
  explicit Predictions(const ModelConfig& config)
      : bias(register_parameter("bias", at::empty({config.vocab_size}))),
        transform(register_module("transform", std::make_shared<Transform>(config))) {}

  at::Tensor bias;
  std::shared_ptr<Transform> transform;
};

ModelConfig require_bert(ModelConfig config, const std::filesystem::path& directory) {
  if (config.architecture == Architecture::kBert) return config;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} holds a {} model, and this needs a BERT", directory.string(),
                          architecture_name(config.architecture)));
}

}  // namespace

struct Bert::Embeddings : torch::nn::Module {
  explicit Embeddings(const ModelConfig& config)
      : config(config),
        words(register_module(
            "word_embeddings",
            std::make_shared<Embedding>(config.vocab_size, config.hidden_size, config.pad_token))),
        positions(register_module("position_embeddings",
                                  std::make_shared<Embedding>(config.max_positions, config.hidden_size))),
        types(register_module("token_type_embeddings",
                              std::make_shared<Embedding>(config.token_types, config.hidden_size))),
        norm(register_module("LayerNorm", norm_of(config))) {}

  at::Tensor forward(const at::Tensor& input_ids, const at::Tensor& token_types) {
    const at::Tensor order = at::arange(input_ids.size(1), input_ids.options()).unsqueeze(0);
    const at::Tensor type_ids = token_types.defined() ? token_types : at::zeros_like(input_ids);
    const at::Tensor sum = words->forward(input_ids) + types->forward(type_ids) + positions->forward(order);
    return drop(norm->forward(sum), config.embedding_dropout, is_training());
  }

  const ModelConfig& config;
  std::shared_ptr<Embedding> words, positions, types;
  std::shared_ptr<LayerNorm> norm;
};

struct Bert::Encoder : torch::nn::Module {
  explicit Encoder(const ModelConfig& config) : layers(register_module("layer", torch::nn::ModuleList())) {
    for (std::int64_t i = 0; i < config.layers; ++i) layers->push_back(std::make_shared<Layer>(config));
  }

  torch::nn::ModuleList layers;
};

struct BertForMaskedLm::Head : torch::nn::Module {
  explicit Head(const ModelConfig& config)
      : predictions(register_module("predictions", std::make_shared<Predictions>(config))) {}

  at::Tensor forward(const at::Tensor& hidden, const at::Tensor& words) {
    return linear_product(predictions->transform->forward(hidden), words, predictions->bias);
  }

  std::shared_ptr<Predictions> predictions;
};

Bert::Bert(ModelConfig config)
    : config_(std::move(config)),
      embeddings_(register_module("embeddings", std::make_shared<Embeddings>(config_))),
      encoder_(register_module("encoder", std::make_shared<Encoder>(config_))) {}

at::Tensor Bert::forward(at::Tensor input_ids, at::Tensor attention_mask, at::Tensor token_types) {
  check_tokens(config_, input_ids, 0);
  at::Tensor allowed;
  if (attention_mask.defined() && !attention_mask.all().item<bool>()) {
    allowed = attention_mask.to(at::kBool).unsqueeze(1).unsqueeze(1).expand(
        {-1, 1, input_ids.size(1), input_ids.size(1)});
  }
  at::Tensor hidden = embeddings_->forward(input_ids, token_types);
  for (const auto& layer : *encoder_->layers) hidden = layer->as<Layer>()->forward(hidden, allowed);
  return hidden;
}

BertForMaskedLm::BertForMaskedLm(const ModelConfig& config)
    : bert_(register_module("bert", std::make_shared<Bert>(config))),
      cls_(register_module("cls", std::make_shared<Head>(config))) {}

at::Tensor BertForMaskedLm::forward(at::Tensor input_ids, at::Tensor attention_mask, at::Tensor labels) {
  const at::Tensor hidden = bert_->forward(std::move(input_ids), std::move(attention_mask));
  const at::Tensor& words = bert_->embeddings_->words->weight;
  if (!labels.defined()) return cls_->forward(hidden, words);
  const at::Tensor targets = labels.reshape({-1}).to(hidden.device());
  const at::Tensor masked = targets.ne(kIgnoredLabel).nonzero().squeeze(1);
  const at::Tensor chosen = hidden.reshape({-1, hidden.size(2)}).index_select(0, masked);
  const at::Tensor logits = cls_->forward(chosen, words);
  return mean_cross_entropy(logits, targets.index_select(0, masked));
}

std::shared_ptr<Bert> bert_from_pretrained(const std::filesystem::path& directory,
                                           const LoadOptions& options) {
  const auto model = std::make_shared<Bert>(require_bert(read_model_config(directory), directory));
  load_weights(*model, directory, "bert", options);
  return model;
}

std::shared_ptr<BertForMaskedLm> masked_lm_from_pretrained(const std::filesystem::path& directory,
                                                           const LoadOptions& options) {
  const auto model = std::make_shared<BertForMaskedLm>(require_bert(read_model_config(directory), directory));
  load_weights(*model, directory, "bert", options);
  return model;
}

}  // namespace deepscale
