#include "runtime/models/layers.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <array>
#include <cmath>

#include "comm/base/error.h"
#include "runtime/models/linear_product.h"
#include "runtime/models/tied_embedding.h"

namespace deepscale {

Linear::Linear(const Options& options) : options_(options) {
  const auto [inputs, outputs] = std::pair(options.inputs, options.outputs);
  weight = register_parameter(
      "weight", options.is_input_major ? at::empty({inputs, outputs}) : at::empty({outputs, inputs}));
  if (options.has_bias) bias = register_parameter("bias", at::empty({outputs}));
}

// A module, so that the names are PEFT's: "lora_A.weight".
struct Linear::Matrix : torch::nn::Module {
  explicit Matrix(const at::Tensor& values) : weight(register_parameter("weight", values)) {}
  at::Tensor weight;
};

at::Tensor Linear::forward(const at::Tensor& input) {
  const at::Tensor output = base_product(input);
  if (!lora_ || lora_->is_fused) return output;
  const at::Tensor inner =
      linear_product(drop(input, lora_->options.dropout, is_training()), lora_->a->weight);
  const double scale = lora_->options.alpha / static_cast<double>(lora_->options.rank);
  return at::add(output, linear_product(inner, lora_->b->weight), scale);
}

at::Tensor Linear::base_product(const at::Tensor& input) const {
  if (quantized_) {
    const at::Tensor product = quantized_->product(input, options_.is_input_major);
    return bias.defined() ? product + bias : product;
  }
  return linear_product(input, options_.is_input_major ? weight.t() : weight, bias);
}

void Linear::quantize(const QuantizeOptions& options) {
  if (quantized_ || (lora_ && lora_->is_fused)) {
    throw Error(ErrorCode::kInvalidArgument, "the weight is quantised already, or an adapter is in it");
  }
  quantized_ = std::make_unique<QuantizedWeight>(weight, options);
  weight.set_requires_grad(false);
  weight.set_data(at::empty({0}, weight.options()));
}

void Linear::add_lora(const LoraOptions& options) {
  if (options.rank < 1 || options.dropout < 0.0 || options.dropout >= 1.0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("an adapter of rank {} with dropout {}: the rank is at least 1, and dropout from 0 to "
                    "below 1",
                    options.rank, options.dropout));
  }
  if (lora_) throw Error(ErrorCode::kInvalidArgument, "the layer has an adapter already");
  const double bound = 1.0 / std::sqrt(static_cast<double>(options_.inputs));
  const at::Tensor a = at::empty({options.rank, options_.inputs}).uniform_(-bound, bound);
  const at::Tensor b = at::zeros({options_.outputs, options.rank});
  lora_ = Lora{.options = options,
               .a = register_module("lora_A", std::make_shared<Matrix>(a.to(weight.options()))),
               .b = register_module("lora_B", std::make_shared<Matrix>(b.to(weight.options())))};
}

at::Tensor Linear::lora_product() const {
  const double scale = lora_->options.alpha / static_cast<double>(lora_->options.rank);
  const at::Tensor product =
      at::matmul(lora_->b->weight.to(at::kFloat), lora_->a->weight.to(at::kFloat)) * scale;
  return options_.is_input_major ? product.t() : product;
}

at::Tensor Linear::like_weight() const {
  const auto sizes = options_.is_input_major ? std::array{options_.inputs, options_.outputs}
                                             : std::array{options_.outputs, options_.inputs};
  return at::empty(sizes, weight.options().device(at::kMeta));
}

at::Tensor Linear::fused_weight() const {
  const at::NoGradGuard no_grad;
  const at::Tensor base = quantized_ ? quantized_->values(weight.scalar_type()) : weight;
  if (!lora_ || lora_->is_fused) return base.clone();
  return (base.to(at::kFloat) + lora_product()).to(weight.scalar_type());
}

void Linear::fuse_lora() {
  if (!lora_ || lora_->is_fused) return;
  if (quantized_) {
    throw Error(ErrorCode::kUnsupported,
                "a quantised weight takes no adapter in; save_pretrained saves both together");
  }
  const at::NoGradGuard no_grad;
  weight.add_(lora_product());
  lora_->is_fused = true;
}

void Linear::unfuse_lora() {
  if (!lora_ || !lora_->is_fused) return;
  const at::NoGradGuard no_grad;
  weight.sub_(lora_product());
  lora_->is_fused = false;
}

Embedding::Embedding(std::int64_t rows, std::int64_t size, std::int64_t padding_row)
    : padding_row_(padding_row) {
  weight = register_parameter("weight", at::empty({rows, size}));
}

at::Tensor Embedding::forward(const at::Tensor& indices) {
  return at::embedding(weight, indices, padding_row_);
}

at::Tensor Embedding::forward_tied(const at::Tensor& indices) {
  return weight.is_cpu() ? tied_rows(weight, indices, padding_row_) : forward(indices);
}

at::Tensor Embedding::scores(const at::Tensor& hidden) {
  return tied_scores(hidden, weight);
}

LayerNorm::LayerNorm(std::int64_t size, double epsilon) : epsilon_(epsilon) {
  weight = register_parameter("weight", at::empty({size}));
  bias = register_parameter("bias", at::empty({size}));
}

at::Tensor LayerNorm::forward(const at::Tensor& input) {
  return at::layer_norm(input, {weight.size(0)}, weight, bias, epsilon_);
}

RmsNorm::RmsNorm(std::int64_t size, double epsilon) : epsilon_(epsilon) {
  weight = register_parameter("weight", at::empty({size}));
}

at::Tensor RmsNorm::forward(const at::Tensor& input) {
  const at::Tensor wide = input.to(at::kFloat);
  const at::Tensor scale = wide.square().mean(-1, /*keepdim=*/true).add(epsilon_).rsqrt();
  return weight * (wide * scale).to(input.scalar_type());
}

at::Tensor activate(const at::Tensor& input, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return at::relu(input);
    case Activation::kGelu:
      return at::gelu(input);
    case Activation::kGeluTanh:
      return at::gelu(input, "tanh");
    case Activation::kSilu:
      return at::silu(input);
  }
  return input;
}

at::Tensor drop(const at::Tensor& input, double probability, bool is_training) {
  return probability > 0.0 && is_training ? at::dropout(input, probability, true) : input;
}

at::Tensor split_heads(const at::Tensor& input, std::int64_t heads) {
  return input.view({input.size(0), input.size(1), heads, -1}).transpose(1, 2);
}

at::Tensor merge_heads(const at::Tensor& input) {
  return input.transpose(1, 2).reshape({input.size(0), input.size(2), -1});
}

at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                  const AttentionOptions& options) {
  const std::int64_t group = query.size(1) / key.size(1);
  const auto repeated = [group](const at::Tensor& tensor) {
    if (group == 1) return tensor;
    const auto sizes = tensor.sizes();
    return tensor.unsqueeze(2)
        .expand({sizes[0], sizes[1], group, sizes[2], sizes[3]})
        .reshape({sizes[0], sizes[1] * group, sizes[2], sizes[3]});
  };
  const auto allowed = options.allowed.defined() ? std::optional<at::Tensor>(options.allowed) : std::nullopt;
  return at::scaled_dot_product_attention(query, repeated(key), repeated(value), allowed, options.dropout,
                                          options.is_causal);
}

}  // namespace deepscale
