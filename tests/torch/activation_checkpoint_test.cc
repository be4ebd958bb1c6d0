// Activation checkpointing: the same result as without, at every stage; the function runs again in backward
// with the random numbers of the first time; its activations are not kept.
#include "runtime/engine/activation_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

constexpr std::int64_t kWidth = 24;
constexpr int kSteps = 4;

enum class Mode { kPlain, kCheckpointed, kInputsOnHost };

struct BlocksImpl : torch::nn::Module {
  explicit BlocksImpl(Mode mode) : mode(mode) {
    torch::manual_seed(3);
    embedding = register_module("embedding", torch::nn::Embedding(11, kWidth));
    for (int i = 0; i < 3; ++i) {
      const std::string number = std::to_string(i);
      wide.push_back(register_module("wide" + number, torch::nn::Linear(kWidth, 4 * kWidth)));
      narrow.push_back(register_module("narrow" + number, torch::nn::Linear(4 * kWidth, kWidth)));
    }
  }
  torch::Tensor block(std::size_t i, const torch::Tensor& input) {
    return input + narrow[i]->forward(torch::gelu(wide[i]->forward(input)));
  }
  torch::Tensor forward(const torch::Tensor& tokens) {
    torch::Tensor hidden = embedding->forward(tokens);
    for (std::size_t i = 0; i < wide.size(); ++i) {
      const auto run = [this, i](const torch::Tensor& input) { return block(i, input); };
      const CheckpointOptions options{.inputs_on_host = mode == Mode::kInputsOnHost};
      hidden = mode == Mode::kPlain ? run(hidden) : deepscale::checkpoint(options, run, hidden);
    }
    return hidden;
  }
  const Mode mode;
  torch::nn::Embedding embedding = nullptr;
  std::vector<torch::nn::Linear> wide, narrow;
};
TORCH_MODULE(Blocks);

// Losses of rank 0.
std::vector<double> train(int world_size, int stage, Mode mode) {
  std::vector<Blocks> models;
  for (int rank = 0; rank < world_size; ++rank) models.emplace_back(mode);
  std::vector<double> losses;
  run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    Config config;
    config.optimizer = OptimizerConfig{.lr = 1e-2};
    config.zero = {.stage = stage,
                   .reduce_bucket_size = 2000,
                   .max_live_parameters = 4000,
                   .prefetch_bucket_size = 1000,
                   .param_persistence_threshold = 50};
    const auto engine =
        initialize(models[static_cast<std::size_t>(rank)], config, rank_options(communicator));
    const torch::Tensor tokens = (torch::arange(12).view({2, 6}) * (rank + 2)) % 11;
    for (int step = 0; step < kSteps; ++step) {
      const torch::Tensor loss = engine->forward(tokens).square().mean();
      engine->backward(loss);
      engine->step();
      if (rank == 0) losses.push_back(loss.item<double>());
    }
  });
  return losses;
}

TEST(ActivationCheckpoint, ChangesNoResultAtAnyStage) {
  for (const int world_size : {1, 2}) {
    for (int stage = 0; stage <= 3; ++stage) {
      SCOPED_TRACE(std::to_string(world_size) + " ranks, stage " + std::to_string(stage));
      const std::vector<double> plain = train(world_size, stage, Mode::kPlain);
      ASSERT_EQ(plain.size(), static_cast<std::size_t>(kSteps));
      EXPECT_NE(plain.front(), plain.back());
      EXPECT_EQ(train(world_size, stage, Mode::kCheckpointed), plain);
      EXPECT_EQ(train(world_size, stage, Mode::kInputsOnHost), plain);
    }
  }
}

TEST(ActivationCheckpoint, DropsTheSameTheSecondTime) {
  const torch::Tensor input = torch::ones({200}, torch::requires_grad());
  torch::Tensor first, second;
  int calls = 0;
  const auto dropped = [&](const torch::Tensor& x) {
    const torch::Tensor result = torch::dropout(x, 0.5, /*train=*/true);
    (calls++ == 0 ? first : second) = result.detach();
    return result;
  };
  torch::manual_seed(1);
  const torch::Tensor output = deepscale::checkpoint(dropped, input);
  const torch::Tensor other = torch::rand({5});  // between the two runs
  const torch::Tensor state = at::globalContext().defaultGenerator(at::kCPU).get_state();
  output.sum().backward();
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(torch::equal(first, second));
  EXPECT_TRUE(torch::equal(input.grad(), first)) << "2 where it was kept, 0 where it was dropped";
  EXPECT_TRUE(torch::equal(at::globalContext().defaultGenerator(at::kCPU).get_state(), state))
      << "backward uses no random numbers of its own";
}

TEST(ActivationCheckpoint, TakesSeveralTensorsAndGivesSeveral) {
  const torch::Tensor a = torch::full({3}, 2.0, torch::requires_grad());
  const torch::Tensor b = torch::full({3}, 5.0, torch::requires_grad());
  const torch::Tensor mask = torch::tensor({1, 0, 1});
  const auto outputs = deepscale::checkpoint(
      [](const torch::Tensor& x, const torch::Tensor& y, const torch::Tensor& m) {
        return std::vector<torch::Tensor>{x * y * m, x + y};
      },
      a, b, mask);
  ASSERT_EQ(outputs.size(), 2U);
  outputs[0].sum().backward();  // the second output gets no gradient
  EXPECT_TRUE(torch::equal(a.grad(), b.detach() * mask));
  EXPECT_TRUE(torch::equal(b.grad(), a.detach() * mask));
}

TEST(ActivationCheckpoint, RunsOnceWhereNoGradientIsAskedFor) {
  int calls = 0;
  const torch::NoGradGuard no_grad;
  const torch::Tensor output = deepscale::checkpoint(
      [&](const torch::Tensor& x) {
        ++calls;
        return x * 2;
      },
      torch::ones({2}));
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(output.requires_grad());
}

TEST(ActivationCheckpoint, ThrowsWhatTheFunctionThrowsTheSecondTime) {
  int calls = 0;
  const torch::Tensor output = deepscale::checkpoint(
      [&](const torch::Tensor& x) {
        if (++calls == 2) throw std::runtime_error("not again");
        return x * 2;
      },
      torch::ones({2}, torch::requires_grad()));
  try {
    output.sum().backward();
    FAIL() << "did not throw";
  } catch (const std::exception& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("not again"));
  }
}

}  // namespace
}  // namespace deepscale::testing
