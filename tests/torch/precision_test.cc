// Overflow: one rank's infinite gradient skips the step on every rank; the loss scale shrinks and grows as
// DeepSpeed's does.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <limits>
#include <mutex>

#include "comm/base/error.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using enum StepResult;

Config half_config(DType dtype, int stage) {
  Config config;
  config.dtype = dtype;
  config.check_gradient_overflow = true;
  config.optimizer = OptimizerConfig{.lr = 1e-3, .weight_decay = 0.1};
  config.zero = {.stage = stage, .reduce_bucket_size = 1000};
  return config;
}

// One optimizer step on this rank's rows, with the loss multiplied by `factor`.
StepResult train_step(const std::unique_ptr<Engine>& engine, int step, double factor = 1.0) {
  const std::int64_t count = kGlobalBatch / engine->world_size();
  const TokenBatch batch = global_batch(step).rows(engine->rank() * count, count);
  engine->backward(token_loss(engine->forward(batch.tokens), batch.targets) * factor);
  return engine->step();
}

std::vector<torch::Tensor> copies(const torch::nn::Module& module) {
  std::vector<torch::Tensor> values;
  for (const torch::Tensor& parameter : trainable_parameters(module))
    values.push_back(parameter.detach().clone());
  return values;
}

void expect_same_bits(const std::vector<torch::Tensor>& actual, const std::vector<torch::Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_TRUE(torch::equal(actual[i], expected[i])) << i;
}

struct Case {
  int stage;
  int world_size;
};

class Overflow : public ::testing::TestWithParam<Case> {
 protected:
  struct Rank {
    std::shared_ptr<Communicator> communicator;
    double bad_factor;              // infinite on the last rank, 1 on the others
    std::vector<Patchwork> models;  // fresh ones with equal values
  };
  static void on_every_rank(const std::function<void(Rank& rank)>& body) {
    const int world_size = GetParam().world_size;
    std::vector<Rank> ranks(static_cast<std::size_t>(world_size));
    for (Rank& rank : ranks) rank.models = make_patchworks(2);
    run_ranks(world_size, [&](int index, const std::shared_ptr<Communicator>& communicator) {
      at::set_num_threads(1);
      Rank& rank = ranks[static_cast<std::size_t>(index)];
      rank.communicator = communicator;
      rank.bad_factor = index == world_size - 1 ? kInfinity : 1.0;
      body(rank);
    });
  }
};

TEST_P(Overflow, Fp16SkipsEveryRankAndMovesTheLossScale) {
  Config config = half_config(DType::kFloat16, GetParam().stage);
  config.check_gradient_overflow = false;  // fp16 checks always
  config.loss_scale.initial_scale_power = 8;
  config.loss_scale.hysteresis = 2;
  config.loss_scale.loss_scale_window = 4;
  config.scheduler.kind = SchedulerKind::kWarmupLr;
  config.scheduler.warmup_num_steps = 100;
  on_every_rank([&](Rank& rank) {
    const Patchwork model = rank.models[0];
    const auto engine = initialize(model, config, rank_options(rank.communicator));
    EXPECT_EQ(train_step(engine, 0), kUpdated);
    EXPECT_EQ(train_step(engine, 1), kUpdated);
    const auto before = copies(*model);
    const double learning_rate = engine->learning_rate();

    EXPECT_EQ(train_step(engine, 2, rank.bad_factor), kSkipped);
    EXPECT_EQ(engine->loss_scale(), 256.0) << "the first overflow only uses up hysteresis";
    EXPECT_EQ(train_step(engine, 3, rank.bad_factor), kSkipped);
    EXPECT_EQ(engine->loss_scale(), 128.0);
    EXPECT_EQ(train_step(engine, 4, rank.bad_factor), kSkipped);
    EXPECT_EQ(engine->loss_scale(), 64.0) << "hysteresis stays used up until the scale grows";
    expect_same_bits(copies(*model), before);
    EXPECT_EQ(engine->learning_rate(), learning_rate);
    EXPECT_EQ(engine->global_steps(), 5);
    EXPECT_EQ(engine->skipped_steps(), 3);

    for (int step = 5; step < 9; ++step) EXPECT_EQ(train_step(engine, step), kUpdated);
    EXPECT_EQ(engine->loss_scale(), 64.0);
    EXPECT_EQ(train_step(engine, 9), kUpdated);
    EXPECT_EQ(engine->loss_scale(), 128.0) << "after a window without overflow";
    EXPECT_GT(engine->learning_rate(), learning_rate);
  });
}

TEST_P(Overflow, SkippedStepsLeaveNoTrace) {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    Config config = half_config(dtype, GetParam().stage);
    config.loss_scale.loss_scale = 128.0;  // static, for fp16
    on_every_rank([&](Rank& rank) {
      const auto engine = initialize(rank.models[0], config, rank_options(rank.communicator));
      EXPECT_EQ(train_step(engine, 0), kUpdated);
      EXPECT_EQ(train_step(engine, 7, rank.bad_factor), kSkipped);
      EXPECT_EQ(train_step(engine, 8, rank.bad_factor), kSkipped);
      EXPECT_EQ(train_step(engine, 1), kUpdated);
      EXPECT_EQ(engine->loss_scale(), dtype == DType::kFloat16 ? 128.0 : 1.0);
      EXPECT_EQ(engine->skipped_steps(), 2);

      const auto undisturbed = initialize(rank.models[1], config, rank_options(rank.communicator));
      EXPECT_EQ(train_step(undisturbed, 0), kUpdated);
      EXPECT_EQ(train_step(undisturbed, 1), kUpdated);
      expect_same_bits(copies(*rank.models[0]), copies(*rank.models[1]));
    });
  }
}

TEST_P(Overflow, WithoutTheCheckEveryStepUpdates) {
  Config config = half_config(DType::kBFloat16, GetParam().stage);
  config.check_gradient_overflow = false;
  on_every_rank([&](Rank& rank) {
    const auto engine = initialize(rank.models[0], config, rank_options(rank.communicator));
    EXPECT_EQ(train_step(engine, 0, rank.bad_factor), kUpdated);
    EXPECT_FALSE(copies(*rank.models[0]).front().isfinite().all().item<bool>());
  });
}

TEST_P(Overflow, AtTheSmallestLossScaleEveryRankIsTold) {
  Config config = half_config(DType::kFloat16, GetParam().stage);
  config.loss_scale.initial_scale_power = 0;
  config.loss_scale.hysteresis = 1;
  std::mutex mutex;
  int told = 0;
  on_every_rank([&](Rank& rank) {
    const auto engine = initialize(rank.models[0], config, rank_options(rank.communicator));
    try {
      train_step(engine, 0, rank.bad_factor);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("training has diverged"), std::string::npos) << error.what();
      const std::lock_guard lock(mutex);
      ++told;
    }
  });
  EXPECT_EQ(told, GetParam().world_size);
}

INSTANTIATE_TEST_SUITE_P(Engine, Overflow,
                         ::testing::Values(Case{0, 1}, Case{0, 2}, Case{1, 2}, Case{2, 2}, Case{2, 3}),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           return fmt::format("Stage{}World{}", info.param.stage, info.param.world_size);
                         });

}  // namespace
}  // namespace deepscale::testing
