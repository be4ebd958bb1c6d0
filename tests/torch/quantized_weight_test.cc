// Frozen matrices of 8 and 4 bits: how far they are from what they were, and that they compute as theirs.
#include "runtime/models/quantized_weight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/base/error.h"
#include "runtime/models/lora.h"
#include "runtime/models/pretrained.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/golden_model.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

class OfBits : public ::testing::TestWithParam<int> {
 protected:
  OfBits() { torch::manual_seed(2); }
  const int bits_ = GetParam();
};

TEST_P(OfBits, EachElementIsTheNearestLevelOfItsGroup) {
  const at::Tensor weight = at::randn({6, 32});
  weight[3].narrow(0, 8, 8).fill_(0.25);  // a group of equal elements
  const QuantizedWeight quantized(weight, {.bits = bits_, .group_size = 8});
  const at::Tensor groups = weight.unflatten(1, {-1, 8});
  const at::Tensor distance = (groups.amax(-1) - groups.amin(-1)) / ((1 << bits_) - 1);
  const at::Tensor error = (quantized.values(at::kFloat) - weight).abs().unflatten(1, {-1, 8}).amax(-1);
  EXPECT_TRUE(error.le(0.5001 * distance + 1e-6).all().item<bool>());
  EXPECT_GT(error.max().item<double>(), 0.0);
  EXPECT_TRUE(quantized.values(at::kFloat)[3].narrow(0, 8, 8).equal(weight[3].narrow(0, 8, 8)));
  EXPECT_EQ(quantized.bytes(), 6 * 32 * bits_ / 8 + 6 * 4 * 2 * 4);
}

TEST_P(OfBits, AProductAndItsGradientAreThoseOfTheRoundedMatrix) {
  for (const bool is_transposed : {false, true}) {
    QuantizedWeight quantized(at::randn({6, 32}), {.bits = bits_, .group_size = 8});
    const at::Tensor values = quantized.values(at::kFloat);
    const at::Tensor input = at::randn({2, 5, is_transposed ? 6 : 32}).requires_grad_();
    const at::Tensor same = input.detach().clone().requires_grad_();
    const at::Tensor product = quantized.product(input, is_transposed);
    const at::Tensor expected = at::linear(same, is_transposed ? values.t() : values);
    EXPECT_TRUE(product.equal(expected));
    product.sin().sum().backward();
    expected.sin().sum().backward();
    EXPECT_TRUE(at::allclose(input.grad(), same.grad(), 1e-5, 1e-6));
  }
}

INSTANTIATE_TEST_SUITE_P(Weights, OfBits, ::testing::Values(8, 4));

TEST(QuantizedWeight, WhatDoesNotFitIsRefused) {
  const at::Tensor weight = at::randn({4, 30});
  const auto refusal = [&](int bits, std::int64_t group_size) {
    return refusal_of([&] { QuantizedWeight(weight, {.bits = bits, .group_size = group_size}); });
  };
  EXPECT_EQ(refusal(3, 10).code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal(8, 64).message,
              HasSubstr("a matrix of 4 x 30 cannot be quantised to 8 bits in groups of 64"));
  EXPECT_THAT(refusal(4, 15).message, HasSubstr("and be even"));
}

TEST(QuantizedModel, ComputesNearlyTheSameAndSavesWhatItComputes) {
  const at::NoGradGuard no_grad;
  for (const char* name : {"llama", "gpt2"}) {  // whose matrices stand either way
    const GoldenModel golden(name);
    const auto model = language_model_from_pretrained(golden.folder, {.dtype = at::kFloat});
    model->eval();
    EXPECT_EQ(quantize_base(*model, {.bits = 8, .group_size = 8}), name == std::string("llama") ? 14 : 8);
    const at::Tensor input_ids = golden.read("input_ids");
    const at::Tensor logits = model->forward(input_ids), expected = golden.read("logits");
    EXPECT_LT((logits - expected).norm().item<double>(), 0.05 * expected.norm().item<double>());
    EXPECT_FALSE(at::allclose(logits, expected));
    const TemporaryFolder folder;
    save_pretrained(*model, folder.path());
    const auto saved = language_model_from_pretrained(folder.path());
    saved->eval();
    EXPECT_LT((saved->forward(input_ids) - logits).abs().max().item<double>(), 1e-4) << name;
    add_lora(*model, {});
    EXPECT_EQ(refusal_of([&] { fuse_lora(*model); }).code, ErrorCode::kUnsupported);
  }
}

}  // namespace
}  // namespace deepscale::testing
