// An Engine and the agent of its node: heartbeats, the request to stop on all ranks, what is reported.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agents/link/rank_link.h"
#include "comm/base/error.h"
#include "tests/agents/link_agent.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

Config sgd_config() {
  Config config;
  config.gradient_accumulation_steps = 2;
  config.optimizer = OptimizerConfig{.kind = OptimizerKind::kSgd, .lr = 1e-3};
  return config;
}

std::shared_ptr<RankLink> link_to(LinkAgent& agent, int rank) {
  return std::make_shared<RankLink>(
      RankLink::from_environment(agent.environment(static_cast<std::size_t>(rank))));
}

void train_micro_step(Engine& engine) {
  const TokenBatch batch = global_batch(0).rows(0, 4);
  engine.backward(token_loss(engine.forward(batch.tokens), batch.targets));
  engine.step();
}

TEST(EngineLink, SendsAHeartbeatForEachStep) {
  LinkAgent agent(1);
  InitializeOptions options;
  options.logger = Logger();
  options.link = link_to(agent, 0);
  const auto engine = initialize(make_patchwork(), sgd_config(), options);
  train_micro_step(*engine);
  EXPECT_FALSE(agent.status(0).steps);
  train_micro_step(*engine);
  EXPECT_TRUE(agent.wait_for(0, [](const LinkStatus& status) { return status.steps == 1; }));
}

TEST(EngineLink, ReportsTheErrorThatLeavesIt) {
  LinkAgent agent(1);
  InitializeOptions options;
  options.logger = Logger();
  options.link = link_to(agent, 0);
  const auto engine = initialize(make_patchwork(), sgd_config(), options);
  const auto loss = torch::ones({1}, torch::requires_grad());
  struct Broken : torch::autograd::Function<Broken> {
    static torch::Tensor forward(torch::autograd::AutogradContext*, torch::Tensor input) {
      return input.clone();
    }
    static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                   torch::autograd::variable_list) {
      throw std::runtime_error("CUDA error: a test");
    }
  };
  EXPECT_ANY_THROW(engine->backward(Broken::apply(loss)));
  const LinkStatus status = agent.status(0);
  ASSERT_TRUE(status.failure);
  EXPECT_EQ(status.failure->kind, RankFailure::kCuda);
  EXPECT_THAT(status.failure->message, HasSubstr("CUDA error: a test"));
}

TEST(EngineLink, ARequestToOneRankStopsAllAfterTheSameStep) {
  LinkAgent agent(2);
  std::vector<Patchwork> models = make_patchworks(2);
  std::array<int, 2> steps = {};
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    InitializeOptions options = rank_options(communicator);
    options.link = link_to(agent, rank);
    const auto index = static_cast<std::size_t>(rank);
    const auto engine = initialize(models[index], sgd_config(), options);
    while (!engine->stop_requested()) {
      train_micro_step(*engine);
      if (++steps[index] == 3 && rank == 1)
        agent.on_thread([&] { return agent.server().request_stop(1, LinkStop::kRequested); });
    }
  });
  EXPECT_EQ(steps[0], steps[1]);
  EXPECT_GE(steps[0], 3);
}

TEST(EngineLink, WithoutAnAgentNothingIsAskedOfTheOtherRanks) {
  InitializeOptions options;
  options.logger = Logger();
  const auto engine = initialize(make_patchwork(), sgd_config(), options);
  EXPECT_FALSE(engine->stop_requested());
}

}  // namespace
}  // namespace deepscale::testing
