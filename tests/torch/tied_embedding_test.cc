// A weight that is both embedding and last layer: its gradient has the bits of the sum of two dense ones, and
// no second tensor of its size is made for it.
#include "runtime/models/tied_embedding.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <memory>
#include <utility>

namespace deepscale {
namespace {

constexpr std::int64_t kRows = 50, kSize = 64, kPaddingRow = 3;

// Counts tensors of the weight's size that this thread makes.
struct WeightCounter : c10::MemoryReportingInfoBase {
  explicit WeightCounter(std::size_t bytes) : bytes(static_cast<std::int64_t>(bytes)) {}
  void reportMemoryUsage(void*, std::int64_t allocated, std::size_t, std::size_t, c10::Device) override {
    if (is_counting && allocated >= bytes) ++count;
  }
  bool memoryProfilingEnabled() const override { return true; }

  std::int64_t bytes;
  bool is_counting = false;
  int count = 0;
};

class TiedWeight : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  TiedWeight() { torch::manual_seed(4); }
  at::Tensor leaf(const at::Tensor& values) const {
    return values.to(GetParam()).clone().set_requires_grad(true);
  }
  const at::Tensor values_ = at::randn({kRows, kSize});
  const at::Tensor factors_ = at::randn({kSize});
  // Repeated ones, and kPaddingRow.
  const at::Tensor indices_ = torch::tensor({{7, 7, 1, 3}, {7, 49, 1, 3}});
};

TEST_P(TiedWeight, HasTheGradientOfTwoDenseOnes) {
  const at::Tensor ours = leaf(values_), expected = leaf(values_);
  const at::Tensor factors = factors_.to(GetParam());
  tied_scores(tied_rows(ours, indices_, kPaddingRow) * factors, ours).square().sum().backward();
  at::linear(at::embedding(expected, indices_, kPaddingRow) * factors, expected).square().sum().backward();
  ASSERT_FALSE(ours.grad().is_sparse());
  EXPECT_TRUE(at::equal(ours.grad(), expected.grad()));
}

// The scores' gradient is that one; what their products need beside is LibTorch's affair.
TEST_P(TiedWeight, GetsOneTensorOfItsSize) {
  const at::Tensor weight = leaf(values_);
  const auto counter = std::make_shared<WeightCounter>(weight.nbytes());
  for (int step = 0; step < 2; ++step) {
    const at::Tensor rows = tied_rows(weight, indices_, -1);
    rows.register_hook([&](const at::Tensor&) { counter->is_counting = true; });
    const at::Tensor loss = tied_scores(rows, weight).sum();
    weight.mutable_grad().reset();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counter);
    loss.backward();
    EXPECT_TRUE(std::exchange(counter->is_counting, false));
    EXPECT_EQ(counter->count, 0);
  }
}

TEST_P(TiedWeight, MayHaveOneUseOnly) {
  const at::Tensor rows = leaf(values_), scores = leaf(values_), expected = leaf(values_);
  tied_rows(rows, indices_, kPaddingRow).sum().backward();
  at::embedding(expected, indices_, kPaddingRow).sum().backward();
  EXPECT_TRUE(at::equal(rows.grad().to_dense(), expected.grad()));
  tied_scores(factors_.to(GetParam()).unsqueeze(0), scores).sum().backward();
  EXPECT_EQ(scores.grad().sizes(), scores.sizes());
}

INSTANTIATE_TEST_SUITE_P(Types, TiedWeight, ::testing::Values(at::kFloat, at::kBFloat16));

}  // namespace
}  // namespace deepscale
