// A cross entropy by blocks has the bits of LibTorch's, forward and backward.
#include "runtime/models/log_probabilities.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "runtime/models/language_model.h"

namespace deepscale {
namespace {

// Several blocks, the last one smaller.
constexpr std::int64_t kBatch = 3, kSequence = 17, kClasses = 40'000;

torch::Tensor random_scores(torch::ScalarType dtype) {
  torch::manual_seed(3);
  return (3.0 * torch::randn({kBatch, kSequence, kClasses})).to(dtype).requires_grad_();
}

torch::Tensor random_labels() {
  torch::manual_seed(4);
  torch::Tensor labels = torch::randint(kClasses, {kBatch, kSequence}, torch::kLong);
  labels[1][5] = kIgnoredLabel;
  labels[2].narrow(0, 9, 8).fill_(kIgnoredLabel);
  return labels;
}

void expect_same_bits(const torch::Tensor& found, const torch::Tensor& expected,
                      const torch::Tensor& scores) {
  EXPECT_TRUE(found.equal(expected)) << found.item<double>() << " instead of " << expected.item<double>();
  const torch::Tensor ours = torch::autograd::grad({1024 * found}, {scores}).front();
  const torch::Tensor theirs = torch::autograd::grad({1024 * expected}, {scores}).front();
  EXPECT_EQ(ours.dtype(), scores.dtype());
  EXPECT_GT(theirs.to(torch::kFloat).abs().sum().item<double>(), 1.0);
  EXPECT_TRUE(ours.equal(theirs));
}

class CrossEntropy : public ::testing::TestWithParam<torch::ScalarType> {};

TEST_P(CrossEntropy, HasTheBitsOfLibTorchs) {
  const torch::Tensor scores = random_scores(GetParam());
  const torch::Tensor rows = scores.view({-1, kClasses});
  const torch::Tensor classes = torch::randint(kClasses, {kBatch * kSequence}, torch::kLong);
  expect_same_bits(mean_cross_entropy(rows, classes), at::cross_entropy_loss(rows.to(torch::kFloat), classes),
                   scores);
}

TEST_P(CrossEntropy, OfTheNextTokenToo) {
  const torch::Tensor scores = random_scores(GetParam());
  const torch::Tensor labels = random_labels();
  const torch::Tensor rows = scores.narrow(1, 0, kSequence - 1).reshape({-1, kClasses}).to(torch::kFloat);
  const torch::Tensor targets = labels.narrow(1, 1, kSequence - 1).reshape({-1});
  expect_same_bits(next_token_loss(scores, labels),
                   at::cross_entropy_loss(rows, targets, {}, at::Reduction::Mean, kIgnoredLabel), scores);
}

TEST(CrossEntropyOfWrongLabels, IsAnError) {
  const torch::Tensor scores = torch::zeros({1, 3, 5});
  EXPECT_ANY_THROW(next_token_loss(scores, torch::tensor({{0, 5, 1}})));
  EXPECT_ANY_THROW(next_token_loss(scores, torch::tensor({{0, -5, 1}})));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CrossEntropy,
                         ::testing::Values(torch::kFloat, torch::kBFloat16, torch::kHalf));

}  // namespace
}  // namespace deepscale
