// Stage 3: what is gathered at a time keeps to the limits of the config at every layer, and programs that do
// more than one forward and one backward pass in turn get the result of one process.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <functional>

#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

constexpr std::int64_t kWidth = 64;
constexpr int kLayers = 8;
constexpr double kLayerBytes = kWidth * kWidth * 4.0;

// Equal layers without biases, that tell when they begin.
struct TowerImpl : torch::nn::Module {
  TowerImpl() {
    torch::manual_seed(4);
    for (int i = 0; i < kLayers; ++i) {
      layers.push_back(
          register_module("layer" + std::to_string(i),
                          torch::nn::Linear(torch::nn::LinearOptions(kWidth, kWidth).bias(false))));
    }
  }
  torch::Tensor forward(torch::Tensor hidden) {
    for (auto& layer : layers) {
      hidden = torch::tanh(layer->forward(hidden));
      if (on_layer) on_layer();
    }
    return hidden;
  }
  std::vector<torch::nn::Linear> layers;
  std::function<void()> on_layer;
};
TORCH_MODULE(Tower);

Config config_with(const ZeroConfig& zero) {
  Config config;
  config.gradient_clipping = 0.0;
  config.optimizer = OptimizerConfig{.lr = 1e-2};
  config.zero = zero;
  config.zero.stage = 3;
  config.zero.reduce_bucket_size = kWidth * kWidth;
  return config;
}

using UseEngine = std::function<void(Engine&, TowerImpl&)>;

void with_engines(int world_size, const Config& config, const UseEngine& use) {
  std::vector<Tower> models;
  for (int rank = 0; rank < world_size; ++rank) models.emplace_back();
  run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    Tower& model = models[static_cast<std::size_t>(rank)];
    const auto engine = initialize(model, config, rank_options(communicator));
    use(*engine, *model);
  });
}

// The most bytes of parameters that a rank held while it trained, in layers.
double most_layers_held(const ZeroConfig& zero) {
  double most = 0.0;
  with_engines(2, config_with(zero), [&](Engine& engine, TowerImpl& model) {
    double here = 0.0;
    const auto look = [&] {
      here = std::max(here, static_cast<double>(engine.memory().parameters) / kLayerBytes);
    };
    model.on_layer = look;
    for (int step = 0; step < 4; ++step) {
      const torch::Tensor loss = engine.forward(torch::ones({2, kWidth})).square().mean();
      // Gradients pass the layers in backward.
      engine.backward(loss);
      look();
      engine.step();
      look();
    }
    model.on_layer = nullptr;
    if (engine.rank() == 0) most = here;
  });
  return most;
}

TEST(Stage3Limits, MaxLiveParametersBoundWhatIsGathered) {
  constexpr double kShard = kLayers / 2.0;
  const std::int64_t layer = kWidth * kWidth;
  for (const std::int64_t live : {1, 2, 4}) {
    const double held = most_layers_held({.max_live_parameters = live * layer,
                                          .max_reuse_distance = 1'000'000'000,
                                          .prefetch_bucket_size = 1'000'000'000,
                                          .param_persistence_threshold = 0});
    EXPECT_LE(held, kShard + static_cast<double>(live) + 0.01) << live;
    EXPECT_GT(held, kShard) << live;
  }
}

TEST(Stage3Limits, WithoutReuseOrPrefetchOneLayerIsGathered) {
  const double held = most_layers_held(
      {.max_reuse_distance = 0, .prefetch_bucket_size = 0, .param_persistence_threshold = 0});
  EXPECT_LE(held, kLayers / 2.0 + 1.01);
}

TEST(Stage3Limits, WithReuseEverythingStaysAndPersistentParametersAlwaysDo) {
  EXPECT_NEAR(most_layers_held({.param_persistence_threshold = 0}), kLayers * 1.5, 0.01);
  with_engines(2, config_with({.param_persistence_threshold = kWidth * kWidth + 1}),
               [&](Engine& engine, TowerImpl& model) {
                 EXPECT_NE(model.layers.front()->weight.data_ptr(), nullptr);
                 EXPECT_NEAR(static_cast<double>(engine.memory().parameters) / kLayerBytes, kLayers * 1.5,
                             0.01);
               });
}

// Two forwards with an evaluation between them, and one backward for both.
std::vector<double> train_unusually(int world_size) {
  std::vector<double> losses;
  const Config config = config_with({.max_live_parameters = 2 * kWidth * kWidth,
                                     .max_reuse_distance = 3 * kWidth * kWidth,
                                     .prefetch_bucket_size = kWidth * kWidth,
                                     .param_persistence_threshold = 0});
  with_engines(world_size, config, [&](Engine& engine, TowerImpl&) {
    for (int step = 0; step < 4; ++step) {
      const torch::Tensor first = engine.forward(torch::full({2, kWidth}, 0.5 + step));
      double evaluated = 0.0;
      {
        const torch::NoGradGuard no_grad;
        for (int i = 0; i <= step; ++i)
          evaluated = engine.forward(torch::ones({1, kWidth})).sum().item<double>();
      }
      const torch::Tensor second = engine.forward(torch::full({2, kWidth}, -1.0));
      const torch::Tensor loss = first.square().mean() + (second - 0.5).square().mean();
      engine.backward(loss);
      engine.step();
      if (engine.rank() == 0) losses.insert(losses.end(), {evaluated, loss.item<double>()});
    }
  });
  return losses;
}

TEST(Stage3, SeveralForwardsAndEvaluationBeforeABackwardGiveTheResultOfOneProcess) {
  const std::vector<double> expected = train_unusually(1);
  const std::vector<double> actual = train_unusually(2);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], 1e-5 * (1.0 + std::abs(expected[i]))) << i;
}

}  // namespace
}  // namespace deepscale::testing
