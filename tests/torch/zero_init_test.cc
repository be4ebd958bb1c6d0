// zero::Init: a model that is made in it is never whole on a rank, and trains as one that was made without.
#include "runtime/engine/zero_init.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>

#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

constexpr std::int64_t kWidth = 31;  // no multiple of a world size
constexpr int kLayers = 6;
constexpr std::int64_t kLayerBytes = kWidth * kWidth * 4;

bool has_memory(const torch::Tensor& tensor) {
  return tensor.storage().data_ptr().get() != nullptr;
}

struct TowerImpl : torch::nn::Module {
  // `seed`: ranks may draw different numbers. From a generator of its own, since ranks are threads here.
  explicit TowerImpl(int seed, const std::function<void(TowerImpl&)>& on_layer = nullptr) {
    const at::Generator generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(seed));
    const torch::NoGradGuard no_grad;
    for (int i = 0; i < kLayers; ++i) {
      layers.push_back(register_module("layer" + std::to_string(i), torch::nn::Linear(kWidth, kWidth)));
      layers.back()->weight.normal_(0.0, 0.2, generator);
      layers.back()->bias.zero_();
      if (on_layer) on_layer(*this);
    }
    extra = register_parameter("extra", torch::empty({kWidth, kWidth}).normal_(0.0, 0.2, generator));
    frozen = register_parameter("frozen", torch::ones({kWidth, kWidth}), /*requires_grad=*/false);
  }
  torch::Tensor forward(torch::Tensor hidden) {
    for (auto& layer : layers) hidden = torch::tanh(layer->forward(hidden));
    return hidden.matmul(extra) + frozen[0];
  }
  std::vector<torch::nn::Linear> layers;
  torch::Tensor extra, frozen;
};
TORCH_MODULE(Tower);

Config config_of(int stage) {
  Config config;
  config.optimizer = OptimizerConfig{.lr = 1e-2};
  config.zero = {.stage = stage,
                 .reduce_bucket_size = 3 * kWidth * kWidth,
                 .max_live_parameters = 3 * kWidth * kWidth,
                 .prefetch_bucket_size = kWidth * kWidth,
                 .param_persistence_threshold = 100};
  return config;
}

std::vector<double> train(Engine& engine, int steps) {
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    const torch::Tensor loss =
        engine.forward(torch::full({2, kWidth}, 0.1 * (engine.rank() + 1 + step))).square().mean();
    engine.backward(loss);
    engine.step();
    losses.push_back(loss.item<double>());
  }
  return losses;
}

const zero::InitOptions kInMemory{.persistence_threshold = 100};

using Modify = std::function<void(TowerImpl&, int rank)>;

// Losses of rank 0. `modify` runs between the model's making and the Engine's.
std::vector<double> losses_of(int world_size, const Config& config,
                              const std::optional<zero::InitOptions>& options,
                              const Modify& modify = nullptr) {
  std::vector<double> losses;
  run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    std::unique_ptr<zero::Init> scope;
    if (options) scope = std::make_unique<zero::Init>(communicator, *options);
    Tower model(7);
    if (modify) modify(*model, rank);
    const auto engine = initialize(model, config, rank_options(communicator));
    if (scope) {
      scope->rethrow_failure();
      EXPECT_EQ(scope->bytes(), 0) << "the Engine has taken all parameters over";
    }
    const std::vector<double> here = train(*engine, 4);
    if (rank == 0) losses = here;
  });
  return losses;
}

TEST(ZeroInit, TrainsAsAModelThatWasMadeWithout) {
  for (const int world_size : {1, 2, 3}) {
    for (int stage = 0; stage <= 3; ++stage) {
      SCOPED_TRACE(fmt::format("{} ranks, stage {}", world_size, stage));
      const std::vector<double> expected = losses_of(world_size, config_of(stage), std::nullopt);
      ASSERT_EQ(expected.size(), 4U);
      EXPECT_EQ(losses_of(world_size, config_of(stage), kInMemory), expected);
    }
  }
}

TEST(ZeroInit, HoldsALayerAtATimeAndSlicesOfTheRest) {
  run_ranks(2, [&](int, const std::shared_ptr<Communicator>& communicator) {
    const zero::Init scope(communicator, {.persistence_threshold = 100});
    int seen = 0;
    const Tower model(7, [&](TowerImpl& tower) {
      for (std::size_t i = 0; i + 1 < tower.layers.size(); ++i) {
        EXPECT_FALSE(has_memory(tower.layers[i]->weight)) << i;
        EXPECT_TRUE(has_memory(tower.layers[i]->bias)) << "below the threshold";
      }
      ++seen;
      EXPECT_LE(scope.bytes(), (seen * kLayerBytes) / 2 + seen * 4);
    });
    EXPECT_EQ(seen, kLayers);
    EXPECT_GE(scope.bytes(), kLayers * kLayerBytes / 2);
    EXPECT_FALSE(has_memory(model->layers[0]->weight));
    EXPECT_TRUE(has_memory(model->frozen));
    const torch::Tensor sum = model->layers[0]->weight.abs().sum();
    EXPECT_GT(sum.item<double>(), 0.0) << "an operator gathers it";
    EXPECT_FALSE(has_memory(model->layers[0]->weight));
    scope.rethrow_failure();
  });
}

TEST(ZeroInit, GivesAllRanksTheValuesOfTheFirst) {
  std::vector<std::vector<torch::Tensor>> values(3);
  run_ranks(3, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const zero::Init scope(communicator, {.persistence_threshold = 100});
    Tower model(rank + 1);
    torch::NoGradGuard no_grad;
    model->layers[2]->weight.fill_(rank + 10.0);
    model->layers[3]->weight.view({-1}).mul_(rank + 2.0);
    for (const auto& layer : model->layers)
      values[static_cast<std::size_t>(rank)].push_back(layer->weight.detach().clone());
    scope.rethrow_failure();
  });
  const Tower first(1);
  for (std::size_t i = 0; i < kLayers; ++i) {
    torch::Tensor expected = first->layers[i]->weight.detach();
    if (i == 2) expected = torch::full_like(expected, 10.0);
    if (i == 3) expected = expected * 2.0;
    for (const auto& of_rank : values) EXPECT_TRUE(torch::equal(of_rank[i], expected)) << i;
  }
}

TEST(ZeroInit, LeavesAloneWhatIsMadeOnceAnEngineHasTheParameters) {
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    const zero::Init scope(communicator, kInMemory);
    const Tower model(7);
    const auto engine = initialize(model, config_of(3), rank_options(communicator));
    torch::Tensor noise;  // a program's own, of this rank
    {
      const torch::NoGradGuard no_grad;
      noise = torch::empty({kWidth, kWidth}).fill_(rank + 1.0);
    }
    noise.requires_grad_(true);
    const torch::Tensor twice = noise * 2;
    EXPECT_EQ(twice.mean().item<double>(), 2.0 * (rank + 1));
    EXPECT_TRUE(has_memory(noise));
    EXPECT_EQ(noise.mean().item<double>(), rank + 1.0);
  });
}

TEST(ZeroInit, TakesChangesAfterTheModelWasMade) {
  const Modify scale = [](TowerImpl& model, int) {
    const torch::NoGradGuard no_grad;
    for (auto& layer : model.layers) layer->weight.mul_(0.5).add_(0.01);
  };
  EXPECT_EQ(losses_of(2, config_of(3), kInMemory, scale), losses_of(2, config_of(3), std::nullopt, scale));
}

TEST(ZeroInit, InAFileTrainsAsAModelThatWasMadeWithout) {
  const Modify scale = [](TowerImpl& model, int) {
    const torch::NoGradGuard no_grad;
    for (auto& layer : model.layers) layer->weight.mul_(0.5).add_(0.01);
    model.layers[1]->weight.set_requires_grad(false);
  };
  for (const int world_size : {1, 2, 3}) {
    const TemporaryFolder folder;
    Config config = config_of(3);
    config.gradient_clipping = 0.0;  // one process adds squares up in another order
    const std::vector<double> expected = losses_of(world_size, config, std::nullopt, scale);
    config.zero.offload_param = {.device = OffloadDevice::kNvme, .nvme_path = folder.path().string()};
    const zero::InitOptions options = zero::InitOptions::of(config);
    EXPECT_EQ(options.nvme_path, folder.path().string());
    EXPECT_EQ(losses_of(world_size, config, options, scale), expected) << world_size << " ranks";
  }
}

TEST(ZeroInit, InAFileHoldsALayerAtATime) {
  for (const int world_size : {1, 2}) {
    const TemporaryFolder folder;
    run_ranks(world_size, [&](int, const std::shared_ptr<Communicator>& communicator) {
      const zero::Init scope(communicator,
                             {.persistence_threshold = 100, .nvme_path = folder.path().string()});
      const Tower model(7, [&](TowerImpl& tower) {
        for (std::size_t i = 0; i + 1 < tower.layers.size(); ++i)
          EXPECT_FALSE(has_memory(tower.layers[i]->weight)) << i;
      });
      EXPECT_EQ(scope.bytes(), 0);
      EXPECT_TRUE(torch::equal(model->layers[2]->weight, Tower(7)->layers[2]->weight));
      scope.rethrow_failure();
    });
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "a file was left behind";
  }
}

TEST(ZeroInit, NamesAFolderThatCannotBeUsed) {
  const TemporaryFolder folder;
  const std::string path = (folder.write("file", "no folder") / "below").string();
  const auto refusal = refusal_of([&] { zero::Init(nullptr, {.nvme_path = path}); });
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, ::testing::HasSubstr(path));
}

TEST(ZeroInit, IsOneScopeAtATime) {
  run_ranks(2, [&](int, const std::shared_ptr<Communicator>& communicator) {
    const zero::Init scope(communicator);
    EXPECT_EQ(refusal_of([&] { zero::Init second(communicator); }).code, ErrorCode::kInvalidArgument);
  });
}

TEST(ZeroInit, KeepsAFailureForLater) {
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const zero::Init scope(communicator, {.persistence_threshold = 100});
    if (rank == 1) communicator->abort("the test");
    const Tower model(7);
    EXPECT_THAT(refusal_of([&] { scope.rethrow_failure(); }).message, ::testing::HasSubstr("the test"));
  });
}

}  // namespace
}  // namespace deepscale::testing
