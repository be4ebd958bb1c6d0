#include "runtime/models/quantized_weight.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include "comm/base/error.h"
#include "runtime/models/linear_product.h"

namespace deepscale {
namespace {

void check(const at::Tensor& weight, const QuantizeOptions& options) {
  if (options.bits != 8 && options.bits != 4) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("weights are quantised to 8 or 4 bits, not {}", options.bits));
  }
  const bool fits = options.group_size > 0 && weight.size(1) % options.group_size == 0 &&
                    (options.bits == 8 || options.group_size % 2 == 0);
  if (fits) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("a matrix of {} x {} cannot be quantised to {} bits in groups of {}: a group has to "
                  "divide the columns{}",
                  weight.size(0), weight.size(1), options.bits, options.group_size,
                  options.bits == 4 ? ", and be even" : ""));
}

at::Tensor widened(const at::Tensor& levels, const at::Tensor& grid, bool is_packed) {
  const at::Tensor bytes =
      is_packed ? at::stack({levels.bitwise_and(15), levels.bitwise_right_shift(4)}, -1).flatten(-2) : levels;
  return bytes.to(at::kFloat).mul_(grid.narrow(-1, 1, 1)).add_(grid.narrow(-1, 0, 1)).flatten(1);
}

// The product with a widened matrix that the graph does not keep.
struct Product : torch::autograd::Function<Product> {
  struct Form {
    bool is_packed, is_transposed;
  };

  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& levels, const at::Tensor& grid, Form form) {
    context->save_for_backward({levels, grid});
    context->saved_data["is_packed"] = form.is_packed;
    context->saved_data["is_transposed"] = form.is_transposed;
    const at::Tensor matrix = widened(levels, grid, form.is_packed).to(input.scalar_type());
    return linear_product(input, form.is_transposed ? matrix.t() : matrix);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor matrix =
        widened(saved[0], saved[1], context->saved_data["is_packed"].toBool()).to(gradients[0].scalar_type());
    const bool is_transposed = context->saved_data["is_transposed"].toBool();
    return {linear_product(gradients[0], is_transposed ? matrix : matrix.t()), {}, {}, {}};
  }
};

}  // namespace

QuantizedWeight::QuantizedWeight(const at::Tensor& weight, const QuantizeOptions& options)
    : is_packed_(options.bits == 4) {
  check(weight, options);
  const at::NoGradGuard no_grad;
  const at::Tensor groups = weight.detach().to(at::kFloat).unflatten(1, {-1, options.group_size});
  const at::Tensor least = groups.amin(-1, /*keepdim=*/true);
  const at::Tensor distance = (groups.amax(-1, /*keepdim=*/true) - least) / ((1 << options.bits) - 1);
  const at::Tensor divisor = distance.clamp_min(1e-30);  // a group of equal elements has no distance
  grid_ = at::cat({least, distance}, -1);
  levels_ = ((groups - least) / divisor).round().to(at::kByte);
  if (!is_packed_) return;
  const at::Tensor pairs = levels_.unflatten(-1, {-1, 2});
  levels_ = pairs.select(-1, 0).bitwise_or(pairs.select(-1, 1).bitwise_left_shift(4));
}

at::Tensor QuantizedWeight::values(at::ScalarType dtype) const {
  const at::NoGradGuard no_grad;
  return widened(levels_, grid_, is_packed_).to(dtype);
}

at::Tensor QuantizedWeight::product(const at::Tensor& input, bool is_transposed) {
  levels_ = levels_.to(input.device());
  grid_ = grid_.to(input.device());
  return Product::apply(input, levels_, grid_, Product::Form{is_packed_, is_transposed});
}

std::int64_t QuantizedWeight::bytes() const {
  return static_cast<std::int64_t>(levels_.nbytes() + grid_.nbytes());
}

}  // namespace deepscale
