#include "runtime/engine/operator_flops.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <unordered_map>

namespace deepscale {
namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;
using Formula = std::int64_t (*)(Inputs);

std::int64_t product_of(const at::Tensor& left, const at::Tensor& right) {
  return 2 * left.numel() * right.size(-1);
}

template <std::size_t Left>
std::int64_t matrix_product(Inputs inputs) {
  return product_of(inputs[Left].toTensor(), inputs[Left + 1].toTensor());
}

// (input, weight [outputs, inputs], ...)
std::int64_t linear(Inputs inputs) {
  return 2 * inputs[0].toTensor().numel() * inputs[1].toTensor().size(0);
}

template <std::size_t Matrix>
std::int64_t vector_product(Inputs inputs) {
  return 2 * inputs[Matrix].toTensor().numel();
}

// Elements of the output, without its channels.
std::int64_t convolved_positions(const at::Tensor& input, const at::Tensor& weight, Inputs geometry) {
  const auto stride = geometry[0].toIntVector(), padding = geometry[1].toIntVector(),
             dilation = geometry[2].toIntVector();
  const auto along = [](const std::vector<std::int64_t>& values, std::size_t i) {
    return values.size() == 1 ? values[0] : values[i];
  };
  std::int64_t positions = input.size(0);
  for (std::size_t i = 0; i + 2 < static_cast<std::size_t>(input.dim()); ++i) {
    const auto dimension = static_cast<std::int64_t>(i) + 2;
    const std::int64_t reach = along(dilation, i) * (weight.size(dimension) - 1) + 1;
    positions *= (input.size(dimension) + 2 * along(padding, i) - reach) / along(stride, i) + 1;
  }
  return positions;
}

// (input, weight, bias, stride, padding, dilation, transposed, ...)
std::int64_t convolution(Inputs inputs) {
  const at::Tensor &input = inputs[0].toTensor(), &weight = inputs[1].toTensor();
  const bool is_transposed = inputs[6].toBool();
  const std::int64_t per_element = weight.numel() / std::max<std::int64_t>(weight.size(0), 1);
  if (is_transposed) return 2 * input.numel() * per_element;
  return 2 * convolved_positions(input, weight, inputs.slice(3, 3)) * weight.numel();
}

// (grad_output, input, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups,
// output_mask): each of the gradients of input and weight takes as much as the convolution.
std::int64_t convolution_backward(Inputs inputs) {
  const at::Tensor &gradient = inputs[0].toTensor(), &input = inputs[1].toTensor(),
                   &weight = inputs[2].toTensor();
  const std::int64_t per_element = weight.numel() / std::max<std::int64_t>(weight.size(0), 1);
  const std::int64_t elements = inputs[7].toBool() ? input.numel() : gradient.numel();
  const auto wanted = inputs[10].toBoolList();
  return 2 * elements * per_element * (static_cast<int>(wanted[0]) + static_cast<int>(wanted[1]));
}

// Two products, of [queries, keys] results; backward has five.
template <std::size_t Query, std::int64_t Products>
std::int64_t attention(Inputs inputs) {
  const at::Tensor &query = inputs[Query].toTensor(), &key = inputs[Query + 1].toTensor(),
                   &value = inputs[Query + 2].toTensor();
  const std::int64_t rows = query.numel() / query.size(-1);
  return Products * rows * key.size(-2) * (query.size(-1) + value.size(-1));
}

// (input [time, batch, features], weights of the input, weights of the state, ...): both are read at each
// time.
template <std::int64_t Times>
std::int64_t recurrent_layer(Inputs inputs) {
  const at::Tensor& input = inputs[0].toTensor();
  const std::int64_t weights = inputs[1].toTensor().numel() + inputs[2].toTensor().numel();
  return 2 * Times * input.size(0) * input.size(1) * weights;
}

const std::unordered_map<std::string_view, Formula>& formulas() {
  static const std::unordered_map<std::string_view, Formula> all = {
      {"aten::mm", matrix_product<0>},
      {"aten::bmm", matrix_product<0>},
      {"aten::addmm", matrix_product<1>},
      {"aten::_addmm_activation", matrix_product<1>},
      {"aten::baddbmm", matrix_product<1>},
      {"aten::addbmm", matrix_product<1>},
      {"aten::mv", vector_product<0>},
      {"aten::addmv", vector_product<1>},
      {"aten::dot", vector_product<0>},
      {"aten::convolution", convolution},
      {"aten::convolution_backward", convolution_backward},
      {"aten::_scaled_dot_product_flash_attention", attention<0, 2>},
      {"aten::_scaled_dot_product_flash_attention_for_cpu", attention<0, 2>},
      {"aten::_scaled_dot_product_efficient_attention", attention<0, 2>},
      {"aten::_scaled_dot_product_cudnn_attention", attention<0, 2>},
      {"aten::_scaled_dot_product_flash_attention_backward", attention<1, 5>},
      {"aten::_scaled_dot_product_flash_attention_for_cpu_backward", attention<1, 5>},
      {"aten::_scaled_dot_product_efficient_attention_backward", attention<1, 5>},
      {"aten::_scaled_dot_product_cudnn_attention_backward", attention<1, 5>},
      {"mkldnn::_linear_pointwise", linear},
      {"aten::mkldnn_rnn_layer", recurrent_layer<1>},
      {"aten::mkldnn_rnn_layer_backward", recurrent_layer<2>},
  };
  return all;
}

}  // namespace

bool has_flops(std::string_view name) {
  return formulas().count(name) > 0;
}

std::int64_t flops_of_operator(std::string_view name, Inputs inputs) {
  return formulas().at(name)(inputs);
}

}  // namespace deepscale
