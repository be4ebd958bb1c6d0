// The optimizers and schedules of the Engine against torch::optim, or against the formula where torch has
// none.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "runtime/engine/host_optimizer.h"
#include "runtime/engine/tensor_optimizer.h"
#include "runtime/schedule/learning_rate.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

constexpr int kSteps = 12;
constexpr double kClipping = 0.25;
constexpr double kEpsilon = 1e-5;

using Parameters = std::vector<torch::Tensor>;

template <typename TorchOptimizer, typename Options>
MakeUpdate torch_optimizer(const Options& options) {
  return [options](Parameters& parameters) -> Update {
    const auto optimizer = std::make_shared<TorchOptimizer>(parameters, options);
    return [optimizer](Parameters&, int) { optimizer->step(); };
  };
}

MakeUpdate adam_without_bias_correction(const OptimizerConfig& config) {
  return [config](Parameters& parameters) -> Update {
    Parameters first, second;
    for (const torch::Tensor& parameter : parameters) {
      first.push_back(torch::zeros_like(parameter));
      second.push_back(torch::zeros_like(parameter));
    }
    return [config, first, second](Parameters& parameters, int) mutable {
      torch::NoGradGuard no_grad;
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const torch::Tensor gradient = parameters[i].grad();
        first[i] = first[i] * config.betas[0] + gradient * (1.0 - config.betas[0]);
        second[i] = second[i] * config.betas[1] + gradient * gradient * (1.0 - config.betas[1]);
        parameters[i].mul_(1.0 - config.lr * config.weight_decay);
        parameters[i].sub_(config.lr * first[i] / (second[i].sqrt() + config.eps));
      }
    };
  };
}

MakeUpdate lion(const OptimizerConfig& config) {
  return [config](Parameters& parameters) -> Update {
    Parameters momentum;
    for (const torch::Tensor& parameter : parameters) momentum.push_back(torch::zeros_like(parameter));
    return [config, momentum](Parameters& parameters, int) mutable {
      torch::NoGradGuard no_grad;
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const torch::Tensor gradient = parameters[i].grad();
        const torch::Tensor mixed = momentum[i] * config.betas[0] + gradient * (1.0 - config.betas[0]);
        parameters[i].mul_(1.0 - config.lr * config.weight_decay).sub_(config.lr * mixed.sign());
        momentum[i] = momentum[i] * config.betas[1] + gradient * (1.0 - config.betas[1]);
      }
    };
  };
}

MakeUpdate adagrad(const OptimizerConfig& config) {
  return torch_optimizer<torch::optim::Adagrad>(
      torch::optim::AdagradOptions(config.lr).eps(config.eps).weight_decay(config.weight_decay));
}

struct Case {
  std::string name;
  OptimizerConfig config;
  MakeUpdate reference;
  double parameter_tolerance = 1e-5;
};

std::vector<Case> cases() {
  namespace optim = torch::optim;
  const OptimizerConfig adam{.lr = 3e-3, .betas = {0.8, 0.95}, .eps = kEpsilon, .weight_decay = 0.1};
  OptimizerConfig l2 = adam;
  l2.kind = OptimizerKind::kAdam;
  OptimizerConfig uncorrected = adam;
  uncorrected.bias_correction = false;
  const OptimizerConfig sgd{.kind = OptimizerKind::kSgd, .lr = 0.3, .weight_decay = 0.01};
  OptimizerConfig momentum = sgd;
  momentum.momentum = 0.7;
  momentum.dampening = 0.2;
  OptimizerConfig nesterov = sgd;
  nesterov.momentum = 0.7;
  nesterov.nesterov = true;
  const OptimizerConfig lion_config{
      .kind = OptimizerKind::kLion, .lr = 3e-3, .betas = {0.9, 0.99}, .weight_decay = 0.1};
  const OptimizerConfig adagrad_config{
      .kind = OptimizerKind::kAdagrad, .lr = 0.01, .eps = kEpsilon, .weight_decay = 0.01};
  const auto sgd_options = [] { return optim::SGDOptions(0.3).weight_decay(0.01); };
  return {
      {"AdamW", adam,
       torch_optimizer<optim::AdamW>(
           optim::AdamWOptions(3e-3).betas({0.8, 0.95}).eps(kEpsilon).weight_decay(0.1))},
      {"Adam", l2,
       torch_optimizer<optim::Adam>(
           optim::AdamOptions(3e-3).betas({0.8, 0.95}).eps(kEpsilon).weight_decay(0.1))},
      {"AdamWWithoutBiasCorrection", uncorrected, adam_without_bias_correction(uncorrected)},
      {"Sgd", sgd, torch_optimizer<optim::SGD>(sgd_options())},
      {"SgdWithMomentum", momentum, torch_optimizer<optim::SGD>(sgd_options().momentum(0.7).dampening(0.2))},
      {"SgdNesterov", nesterov, torch_optimizer<optim::SGD>(sgd_options().momentum(0.7).nesterov(true))},
      {"Lion", lion_config, lion(lion_config)},
      {"Adagrad", adagrad_config, adagrad(adagrad_config)},
  };
}

class OptimizerEquality : public ::testing::TestWithParam<std::tuple<Case, int>> {};

TEST_P(OptimizerEquality, WithTorch) {
  const auto& [optimizer, world_size] = GetParam();
  Config config;
  config.gradient_clipping = kClipping;
  config.optimizer = optimizer.config;
  config.zero = {.stage = 2, .reduce_bucket_size = 1000};
  const TrainingResult expected = train_reference(kClipping, kSteps, optimizer.reference);
  const TrainingResult result = train_with_engines(world_size, config, kSteps);
  expect_equal_losses(result, expected, 1e-5);
  expect_equal_parameters(result, expected, optimizer.parameter_tolerance);
  expect_equal_ranks(result);
}

INSTANTIATE_TEST_SUITE_P(Engine, OptimizerEquality,
                         ::testing::Combine(::testing::ValuesIn(cases()), ::testing::Values(1, 2)),
                         [](const auto& info) {
                           return fmt::format("{}World{}", std::get<0>(info.param).name,
                                              std::get<1>(info.param));
                         });

// ATen's kernels, which other devices take, and the loops for the CPU: the same optimizer.
TEST(Optimizer, IsTheSameOnEveryDevice) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.name);
    torch::manual_seed(3);
    const auto make_segments = [] {
      torch::manual_seed(3);
      std::vector<Segment> segments;
      for (const std::int64_t numel : {70'001, 5}) {
        const torch::Tensor master = torch::randn({numel});
        segments.push_back(
            {.master = master, .gradient = torch::Tensor(), .parameter = master.to(torch::kBFloat16)});
      }
      return segments;
    };
    std::vector<Segment> left = make_segments(), right = make_segments();
    TensorOptimizer tensors(test.config, left);
    HostOptimizer host(test.config, right, nullptr);
    for (int step = 0; step < 3; ++step) {
      for (std::size_t i = 0; i < left.size(); ++i) {
        left[i].gradient = torch::randn_like(left[i].parameter.tensor());
        right[i].gradient = left[i].gradient.clone();
      }
      const Optimizer::StepOptions options{
          .learning_rate = test.config.lr, .betas = test.config.betas, .gradient_divisor = 4.0};
      tensors.step(left, options);
      host.step(right, options);
    }
    ASSERT_EQ(tensors.quantities(), host.quantities());
    for (const std::string& quantity : host.quantities()) {
      for (std::size_t i = 0; i < left.size(); ++i) {
        const Optimizer::Range all{quantity, i, 0, left[i].master.numel()};
        EXPECT_TRUE(torch::allclose(tensors.read(all), host.read(all), 1e-5, 1e-6)) << quantity;
        EXPECT_TRUE(torch::equal(right[i].parameter.tensor(), right[i].master.to(torch::kBFloat16)));
      }
    }
    EXPECT_EQ(tensors.state_bytes(), host.state_bytes());
  }
}

// 16-bit gradients are converted in pieces; the pieces must add up to the whole.
TEST(Optimizer, ConvertsLargeSegmentsInPieces) {
  constexpr std::int64_t kNumel = 16 * 1024 * 1024 + 77;
  const torch::Tensor gradient = torch::arange(kNumel, torch::kFloat).remainder(251).to(torch::kBFloat16);
  const torch::Tensor small_gradient = torch::full({3}, 2.0, torch::kBFloat16);
  Segment large{.master = torch::ones({kNumel}), .gradient = gradient, .parameter = gradient.clone()};
  Segment small{.master = torch::ones({3}), .gradient = small_gradient, .parameter = small_gradient.clone()};
  const std::vector<Segment> segments = {small, large, small};
  TensorOptimizer optimizer({.kind = OptimizerKind::kSgd}, segments);
  optimizer.step(segments, {.learning_rate = 0.5, .betas = {}, .gradient_divisor = 4.0});

  const torch::Tensor expected = 1.0 - 0.5 * (gradient.to(torch::kFloat) / 4.0);
  EXPECT_TRUE(torch::equal(large.master, expected));
  EXPECT_TRUE(torch::equal(large.parameter.tensor(), expected.to(torch::kBFloat16)));
  EXPECT_TRUE(torch::equal(small.master, torch::full({3}, 0.5)));  // it was there twice
}

// One parameter whose gradient is 1, so that plain SGD moves it by the learning rate.
struct SlopeImpl : torch::nn::Module {
  SlopeImpl() { weight = register_parameter("weight", torch::zeros({5}, torch::kFloat)); }
  torch::Tensor forward(const torch::Tensor& x) { return (weight * x).sum(); }
  torch::Tensor weight;
};
TORCH_MODULE(Slope);

std::vector<SchedulerConfig> schedules() {
  SchedulerConfig base;
  base.warmup_max_lr = 0.5;
  base.warmup_num_steps = 4;
  base.total_num_steps = 9;
  base.cycle_min_lr = 0.1;
  base.cycle_max_lr = 0.7;
  base.cycle_first_step_size = 3;
  base.decay_step_size = 2;
  base.decay_lr_rate = 0.5;
  base.lr_range_test_min_lr = 0.01;
  base.lr_range_test_step_size = 2;
  std::vector<SchedulerConfig> all;
  for (const SchedulerKind kind :
       {SchedulerKind::kNone, SchedulerKind::kWarmupLr, SchedulerKind::kWarmupDecayLr,
        SchedulerKind::kWarmupCosineLr, SchedulerKind::kOneCycle, SchedulerKind::kLrRangeTest}) {
    base.kind = kind;
    all.push_back(base);
  }
  return all;
}

TEST(Schedule, MovesThePlainSgdStep) {
  for (const SchedulerConfig& scheduler : schedules()) {
    for (const int world_size : {1, 2}) {
      SCOPED_TRACE(fmt::format("schedule {}, world {}", static_cast<int>(scheduler.kind), world_size));
      Config config;
      config.gradient_clipping = 0.0;
      config.optimizer = OptimizerConfig{.kind = OptimizerKind::kSgd, .lr = 0.25};
      config.scheduler = scheduler;
      const LearningRateSchedule schedule(scheduler, 0.25);
      run_ranks(world_size, [&](int, const std::shared_ptr<Communicator>& communicator) {
        Slope model;
        const auto engine = initialize(model, config, rank_options(communicator));
        for (int step = 0; step < 12; ++step) {
          const torch::Tensor before = model->weight.detach().clone();
          EXPECT_EQ(engine->learning_rate(), schedule.learning_rate(step));
          engine->backward(engine->forward(torch::ones({5})));
          engine->step();
          const torch::Tensor moved = before - model->weight.detach();
          EXPECT_NEAR(moved.min().item<double>(), schedule.learning_rate(step), 1e-6) << "step " << step;
          EXPECT_NEAR(moved.max().item<double>(), schedule.learning_rate(step), 1e-6) << "step " << step;
        }
      });
    }
  }
}

// OneCycle moves beta1 and, as in DeepSpeed, sets beta2 to 0.99, whatever the optimizer section says.
TEST(Schedule, OneCycleMovesTheMomentum) {
  SchedulerConfig scheduler;
  scheduler.kind = SchedulerKind::kOneCycle;
  scheduler.cycle_min_lr = scheduler.cycle_max_lr = 2e-3;
  scheduler.cycle_first_step_size = 4;
  scheduler.cycle_min_mom = 0.5;
  scheduler.cycle_max_mom = 0.9;
  Config config;
  config.gradient_clipping = 0.0;
  config.optimizer = OptimizerConfig{.lr = 2e-3, .betas = {0.9, 0.8}, .eps = kEpsilon};
  config.scheduler = scheduler;

  const MakeUpdate reference = [](Parameters& parameters) -> Update {
    const auto optimizer = std::make_shared<torch::optim::AdamW>(
        parameters, torch::optim::AdamWOptions(2e-3).eps(kEpsilon).weight_decay(0.0));
    return [optimizer](Parameters&, int step) {
      const double beta1 = std::vector<double>{0.5, 0.8, 0.7, 0.6, 0.5, 0.6, 0.7, 0.8}.at(step);
      static_cast<torch::optim::AdamWOptions&>(optimizer->param_groups().front().options())
          .betas({beta1, 0.99});
      optimizer->step();
    };
  };
  const TrainingResult expected = train_reference(0.0, 8, reference);
  for (const int world_size : {1, 2}) {
    const TrainingResult result = train_with_engines(world_size, config, 8);
    expect_equal_losses(result, expected, 1e-5);
    expect_equal_parameters(result, expected, 1e-5);
  }
}

}  // namespace
}  // namespace deepscale::testing
