#include "runtime/models/linear_product.h"

#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/torch.h>

#include <optional>

namespace deepscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Empty where this LibTorch is without oneDNN, or the processor without AVX-512.
const std::optional<c10::OperatorHandle>& onednn_linear() {
  static const std::optional<c10::OperatorHandle> found =
      at::get_cpu_capability() == "AVX512"
          ? c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""})
          : std::nullopt;
  return found;
}

// Whether oneDNN's product pays. It has no derivative of its own, so it is for tensors without a graph.
bool pays(const at::Tensor& input, const at::Tensor& weight) {
  constexpr std::int64_t kFewest = 1 << 18;  // products of two numbers: some microseconds
  const auto fits = [](const at::Tensor& tensor) {
    return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat && tensor.dim() >= 1;
  };
  return fits(input) && fits(weight) && weight.dim() == 2 && input.size(-1) == weight.size(1) &&
         input.numel() * weight.size(0) >= kFewest && onednn_linear() &&
         at::globalContext().userEnabledMkldnn();
}

at::Tensor onednn_product(const at::Tensor& input, const at::Tensor& weight,
                          const std::optional<at::Tensor>& bias) {
  torch::jit::Stack stack{input, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), ""};
  onednn_linear()->callBoxed(stack);
  return stack.front().toTensor();
}

// In a backward pass; its own graph is wanted where gradients are enabled.
at::Tensor product(const at::Tensor& input, const at::Tensor& weight) {
  return !at::GradMode::is_enabled() && pays(input, weight) ? onednn_product(input, weight, {})
                                                            : at::linear(input, weight);
}

struct Product : torch::autograd::Function<Product> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({input, weight});
    context->saved_data["has_bias"] = bias.has_value();
    return onednn_product(input, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1];
    const at::Tensor rows = gradients[0].reshape({-1, weight.size(0)});
    variable_list result(3);
    if (context->needs_input_grad(0)) result[0] = product(gradients[0], weight.t());
    if (context->needs_input_grad(1)) result[1] = product(rows.t(), input.reshape({-1, weight.size(1)}).t());
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)) result[2] = rows.sum(0);
    return result;
  }
};

}  // namespace

at::Tensor linear_product(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const auto term = bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt;
  return pays(input, weight) ? Product::apply(input, weight, term) : at::linear(input, weight, term);
}

}  // namespace deepscale
