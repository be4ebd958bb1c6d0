#include "runtime/models/layers.h"

#include <torch/torch.h>

namespace deepscale {

Linear::Linear(const Options& options) : options_(options) {
  const auto [inputs, outputs] = std::pair(options.inputs, options.outputs);
  weight = register_parameter(
      "weight", options.is_input_major ? at::empty({inputs, outputs}) : at::empty({outputs, inputs}));
  if (options.has_bias) bias = register_parameter("bias", at::empty({outputs}));
}

at::Tensor Linear::forward(const at::Tensor& input) {
  return at::linear(input, options_.is_input_major ? weight.t() : weight,
                    bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
}

Embedding::Embedding(std::int64_t rows, std::int64_t size, std::int64_t padding_row)
    : padding_row_(padding_row) {
  weight = register_parameter("weight", at::empty({rows, size}));
}

at::Tensor Embedding::forward(const at::Tensor& indices) {
  return at::embedding(weight, indices, padding_row_);
}

at::Tensor Embedding::scores(const at::Tensor& hidden) {
  return at::linear(hidden, weight);
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
