// The layers that the models are made of, as ordinary torch::nn modules whose parameters have the names that
// Hugging Face gives them.
//
// A new layer's parameters have memory but no values: load them (pretrained.h) or initialise them
// (initialize_weights()). Shapes are [batch, sequence, features] unless said otherwise. Not for several
// threads at once. Failures are LibTorch's.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "runtime/models/quantized_weight.h"
#include "runtime/pretrained/model_config.h"

namespace deepscale {

// How a low-rank adapter is made (Hu et al., 2021): the layer adds alpha / rank * B(A(dropped input)).
struct LoraOptions {
  std::int64_t rank = 8;
  double alpha = 16.0;
  double dropout = 0.0;
};

// input * weight^T + bias, and what an adapter adds.
class Linear : public torch::nn::Module {
 public:
  struct Options {
    std::int64_t inputs = 0;
    std::int64_t outputs = 0;
    bool has_bias = true;
    bool is_input_major = false;  // weight is [inputs, outputs], as GPT-2's files have it
  };
  explicit Linear(const Options& options);
  at::Tensor forward(const at::Tensor& input);

  const Options& options() const { return options_; }

  // A gets random values, B zeros, so the layer computes what it did; both of the weight's type and device.
  // Error(kInvalidArgument) for a second one. Before an Engine takes the model.
  void add_lora(const LoraOptions& options);
  bool has_lora() const { return lora_.has_value(); }
  const LoraOptions& lora_options() const { return lora_->options; }
  // A tensor without values that has the weight's type and shape.
  at::Tensor like_weight() const;
  // The weight with the adapter in it, as a tensor of its own.
  at::Tensor fused_weight() const;
  // Puts the adapter into the weight, or takes it out again; what has happened already is not done twice.
  // Error(kUnsupported) where the weight is quantised.
  void fuse_lora();
  void unfuse_lora();

  // Rounds the weight, which is frozen from then on and has no element itself. Before an Engine takes the
  // model.
  void quantize(const QuantizeOptions& options);
  const QuantizedWeight* quantized() const { return quantized_.get(); }

  at::Tensor weight;  // [outputs, inputs], or [inputs, outputs]; empty where it is quantised
  at::Tensor bias;    // [outputs]; undefined without one

 private:
  struct Matrix;
  struct Lora {
    LoraOptions options;
    std::shared_ptr<Matrix> a, b;  // [rank, inputs], [outputs, rank]
    bool is_fused = false;
  };
  at::Tensor base_product(const at::Tensor& input) const;
  at::Tensor lora_product() const;  // of the weight's shape, in fp32

  Options options_;
  std::optional<Lora> lora_;
  std::unique_ptr<QuantizedWeight> quantized_;
};

class Embedding : public torch::nn::Module {
 public:
  // A row of padding gets no gradient; -1: there is none.
  Embedding(std::int64_t rows, std::int64_t size, std::int64_t padding_row = -1);
  at::Tensor forward(const at::Tensor& indices);
  // The same for a weight whose scores() are part of the same loss (tied_embedding.h). Without them the
  // weight's grad() is sparse.
  at::Tensor forward_tied(const at::Tensor& indices);
  // Scores of all rows, for a head that is tied to its embedding: hidden * weight^T.
  at::Tensor scores(const at::Tensor& hidden);

  at::Tensor weight;  // [rows, size]

 private:
  std::int64_t padding_row_;
};

class LayerNorm : public torch::nn::Module {
 public:
  LayerNorm(std::int64_t size, double epsilon);
  at::Tensor forward(const at::Tensor& input);

  at::Tensor weight, bias;  // [size]

 private:
  double epsilon_;
};

// Root mean square norm (Zhang and Sennrich, 2019), computed in fp32.
class RmsNorm : public torch::nn::Module {
 public:
  RmsNorm(std::int64_t size, double epsilon);
  at::Tensor forward(const at::Tensor& input);

  at::Tensor weight;  // [size]

 private:
  double epsilon_;
};

at::Tensor activate(const at::Tensor& input, Activation activation);
at::Tensor drop(const at::Tensor& input, double probability, bool is_training);

// [batch, sequence, heads * size] -> [batch, heads, sequence, size], and back.
at::Tensor split_heads(const at::Tensor& input, std::int64_t heads);
at::Tensor merge_heads(const at::Tensor& input);

// What attends to what.
struct AttentionOptions {
  at::Tensor allowed;  // bool, broadcast to [batch, heads, queries, keys]; undefined: all
  bool is_causal = false;
  double dropout = 0.0;
};
// All three [batch, heads, sequence, size]; keys and values may have fewer heads, which then serve groups.
at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                  const AttentionOptions& options);

}  // namespace deepscale
