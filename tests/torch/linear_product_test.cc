#include "runtime/models/linear_product.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace deepscale {
namespace {

struct Operands {
  torch::Tensor input, weight, bias;

  std::vector<torch::Tensor> gradients_of(const torch::Tensor& loss, bool keeps_graph = false) const {
    std::vector<torch::Tensor> wanted;
    for (const torch::Tensor& tensor : {input, weight, bias})
      if (tensor.defined() && tensor.requires_grad()) wanted.push_back(tensor);
    return torch::autograd::grad({loss}, wanted, {}, true, keeps_graph);
  }
};

Operands operands(const std::vector<std::int64_t>& input, std::int64_t outputs, bool has_bias) {
  torch::manual_seed(1);
  return {torch::randn(input).requires_grad_(), torch::randn({outputs, input.back()}).requires_grad_(),
          has_bias ? torch::randn({outputs}).requires_grad_() : torch::Tensor()};
}

torch::Tensor plain(const Operands& of) {
  const auto product = torch::matmul(of.input, of.weight.t());
  return of.bias.defined() ? product + of.bias : product;
}

void expect_close(const torch::Tensor& found, const torch::Tensor& expected) {
  EXPECT_TRUE(torch::allclose(found, expected, 1e-4, 1e-4 * expected.abs().max().item<double>()))
      << "off by " << (found - expected).abs().max().item<double>();
}

void expect_equal_to_plain(const Operands& of) {
  const torch::Tensor found = linear_product(of.input, of.weight, of.bias), expected = plain(of);
  ASSERT_EQ(found.sizes(), expected.sizes());
  expect_close(found, expected);
  const torch::Tensor seed = torch::randn_like(expected);
  const auto found_gradients = of.gradients_of((found * seed).sum());
  const auto expected_gradients = of.gradients_of((expected * seed).sum());
  for (std::size_t i = 0; i < expected_gradients.size(); ++i)
    expect_close(found_gradients[i], expected_gradients[i]);
}

TEST(LinearProduct, EqualsTheProductOfMatricesAndItsGradients) {
  for (const bool has_bias : {false, true}) {
    expect_equal_to_plain(operands({2, 3}, 5, has_bias));        // small: at::linear
    expect_equal_to_plain(operands({3, 40, 96}, 80, has_bias));  // large
    expect_equal_to_plain(operands({512}, 1024, has_bias));      // one row
    expect_equal_to_plain(operands({1, 1, 700}, 1000, has_bias));
  }
}

TEST(LinearProduct, TakesViewsThatAreTransposed) {
  Operands of = operands({64, 96}, 80, true);
  of.weight = torch::randn({96, 80}).t().requires_grad_();
  of.input = torch::randn({96, 64}).t().requires_grad_();
  expect_equal_to_plain(of);
}

TEST(LinearProduct, FrozenWeightsGetNoGradient) {
  Operands of = operands({64, 96}, 80, false);
  of.weight = of.weight.detach();
  expect_equal_to_plain(of);
  const torch::NoGradGuard no_grad;
  EXPECT_FALSE(linear_product(of.input, of.weight).requires_grad());
}

TEST(LinearProduct, HasSecondDerivatives) {
  const Operands of = operands({64, 96}, 80, false);
  const auto second = [&](const torch::Tensor& output) {
    return of.gradients_of(of.gradients_of(output.pow(3).sum(), /*keeps_graph=*/true)[1].pow(2).sum());
  };
  const auto found = second(linear_product(of.input, of.weight)), expected = second(plain(of));
  for (std::size_t i = 0; i < expected.size(); ++i) expect_close(found[i], expected[i]);
}

}  // namespace
}  // namespace deepscale
