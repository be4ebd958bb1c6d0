// Stage 3 with parameters in files is stage 3, bit by bit: training, what programs read and write between the
// steps, frozen parameters, checkpoints. And one process needs no other ranks for it.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int kSteps = 4;

Config config_of(DType dtype, const TemporaryFolder& folder) {
  Config config;
  config.dtype = dtype;
  config.gradient_clipping = 0.5;
  config.optimizer = OptimizerConfig{.lr = 4e-3, .betas = {0.9, 0.98}, .eps = 1e-6, .weight_decay = 0.05};
  config.loss_scale.initial_scale_power = 8;
  config.gradient_accumulation_steps = 3;
  config.zero = {.stage = 3,
                 .reduce_bucket_size = 400,
                 .max_live_parameters = 1500,
                 .prefetch_bucket_size = 300,
                 .param_persistence_threshold = 40,
                 .sub_group_size = 2000};
  config.zero.offload_param.nvme_path = folder.path().string();
  config.zero.offload_optimizer.nvme_path = folder.path().string();
  config.aio = {.block_size = 4096, .queue_depth = 2};
  return config;
}

struct Case {
  int world_size;
  DType dtype;
  OffloadDevice optimizer;
  std::int64_t prefetch = 300;
};

std::string name_of(const Case& c) {
  return fmt::format("World{}{}Optimizer{}Prefetch{}", c.world_size, dtype_name(c.dtype),
                     static_cast<int>(c.optimizer), c.prefetch);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const OffloadDevice optimizer : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
      for (const int world_size : {2, 3, 4}) all.push_back({world_size, dtype, optimizer});
    }
    all.push_back({2, dtype, OffloadDevice::kCpu, 0});
    all.push_back({2, dtype, OffloadDevice::kCpu, 5000});
  }
  all.push_back({3, DType::kFloat16, OffloadDevice::kNvme});
  return all;
}

class ParameterOffloadTraining : public ::testing::TestWithParam<Case> {};

TEST_P(ParameterOffloadTraining, EqualsNoOffload) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  Config config = config_of(c.dtype, folder);
  config.zero.prefetch_bucket_size = c.prefetch;
  const TrainingResult expected = train_with_engines(c.world_size, config, kSteps);
  config.zero.offload_param.device = OffloadDevice::kNvme;
  config.zero.offload_optimizer.device = c.optimizer;
  const TrainingResult result = train_with_engines(c.world_size, config, kSteps);
  EXPECT_EQ(result.losses, expected.losses);
  expect_equal_parameters(result, expected, 0.0);
  expect_equal_ranks(result);
  EXPECT_TRUE(fs::is_empty(folder.path())) << "a file was left behind";
}

INSTANTIATE_TEST_SUITE_P(Engine, ParameterOffloadTraining, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return name_of(info.param); });

// Clipping is left out: it adds the squares of the gradients up in another order.
TEST(ParameterOffload, OneProcessEqualsOneProcessWithoutZero) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const OffloadDevice optimizer : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
      SCOPED_TRACE(fmt::format("{}, {}", dtype_name(dtype), static_cast<int>(optimizer)));
      const TemporaryFolder folder;
      Config config = config_of(dtype, folder);
      config.gradient_clipping = 0.0;
      config.zero.stage = 0;
      const TrainingResult expected = train_with_engines(1, config, kSteps);
      config.zero.stage = 3;
      config.zero.offload_param.device = OffloadDevice::kNvme;
      config.zero.offload_optimizer.device = optimizer;
      const TrainingResult result = train_with_engines(1, config, kSteps);
      EXPECT_EQ(result.losses, expected.losses);
      expect_equal_parameters(result, expected, 0.0);
    }
  }
}

constexpr std::int64_t kWidth = 64;
constexpr int kLayers = 8;
constexpr std::int64_t kLayerNumel = kWidth * kWidth;

// Equal layers; their biases are below the persistence threshold.
torch::nn::Sequential make_tower() {
  torch::manual_seed(5);
  torch::nn::Sequential model;
  for (int i = 0; i < kLayers; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
  return model;
}

Config tower_config(DType dtype, OffloadDevice parameters, const TemporaryFolder& folder) {
  Config config = config_of(dtype, folder);
  config.gradient_accumulation_steps = 1;
  config.zero.reduce_bucket_size = kLayerNumel;
  config.zero.param_persistence_threshold = kWidth + 1;
  config.zero.max_live_parameters = 2 * kLayerNumel;
  config.zero.prefetch_bucket_size = kLayerNumel;
  config.zero.offload_param.device = parameters;
  config.zero.gather_16bit_weights_on_model_save = true;
  return config;
}

using UseTower = std::function<void(Engine&, torch::nn::Sequential&)>;

void with_towers(int world_size, const Config& config, const UseTower& use,
                 const std::function<void(torch::nn::Sequential&)>& prepare = nullptr) {
  std::vector<torch::nn::Sequential> models;
  for (int rank = 0; rank < world_size; ++rank) {
    models.push_back(make_tower());
    if (prepare) prepare(models.back());
  }
  run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    torch::nn::Sequential& model = models[static_cast<std::size_t>(rank)];
    const auto engine = initialize(model, config, rank_options(communicator));
    use(*engine, model);
  });
}

// The losses of rank 0, also of an evaluation before each step.
std::vector<double> train_tower(Engine& engine, int first, int steps) {
  std::vector<double> losses;
  for (int step = first; step < first + steps; ++step) {
    const torch::Tensor input = torch::full({2, kWidth}, 0.1 * (1 + step) + 0.01 * engine.rank());
    {
      const torch::NoGradGuard no_grad;
      losses.push_back(engine.forward(input * 2).sum().item<double>());
    }
    const torch::Tensor loss = engine.forward(input).to(torch::kFloat).square().mean();
    losses.push_back(loss.item<double>());
    engine.backward(loss);
    engine.step();
  }
  return losses;
}

TEST(ParameterOffload, MemoryIsTheLiveWindowAndWhatIsPersistent) {
  for (const int world_size : {1, 2}) {
    const TemporaryFolder folder;
    with_towers(world_size, tower_config(DType::kFloat32, OffloadDevice::kNvme, folder),
                [&](Engine& engine, torch::nn::Sequential& model) {
                  const std::int64_t biases = kLayers * kWidth * 4 * (1 + world_size) / world_size;
                  const std::int64_t buffers = 1 << 20;
                  EXPECT_ANY_THROW(model->parameters().front().data_ptr<float>());
                  for (int step = 0; step < 3; ++step) {
                    train_tower(engine, step, 1);
                    const std::int64_t live = engine.memory().parameters - biases - buffers;
                    EXPECT_LE(live, 2 * kLayerNumel * 4) << "world " << world_size;
                  }
                });
  }
}

// A model of which the first layers are frozen, as under adapters.
TEST(ParameterOffload, FrozenParametersLieInTheFileToo) {
  const auto freeze = [](torch::nn::Sequential& model) {
    for (int i = 0; i < 2 * (kLayers - 1); ++i)
      torch::Tensor(model->parameters()[static_cast<std::size_t>(i)]).set_requires_grad(false);
  };
  for (const int world_size : {1, 3}) {
    const TemporaryFolder folder;
    std::vector<double> expected, losses;
    with_towers(
        world_size, tower_config(DType::kFloat32, OffloadDevice::kNone, folder),
        [&](Engine& engine, torch::nn::Sequential&) {
          const std::vector<double> here = train_tower(engine, 0, 3);
          if (engine.rank() == 0) expected = here;
        },
        freeze);
    with_towers(
        world_size, tower_config(DType::kFloat32, OffloadDevice::kNvme, folder),
        [&](Engine& engine, torch::nn::Sequential& model) {
          EXPECT_ANY_THROW(model->parameters().front().data_ptr<float>());
          const std::vector<double> here = train_tower(engine, 0, 3);
          EXPECT_LE(engine.memory().parameters, (1 << 20) + 3 * kLayerNumel * 4);
          if (engine.rank() == 0) losses = here;
        },
        freeze);
    EXPECT_EQ(losses, expected);
  }
}

TEST(ParameterOffload, WhatProgramsWriteGoesIntoTheFile) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const TemporaryFolder folder;
    Config config = tower_config(dtype, OffloadDevice::kNvme, folder);
    config.optimizer->lr = 0.0;
    with_towers(2, config, [&](Engine& engine, torch::nn::Sequential& model) {
      const std::vector<torch::Tensor> parameters = model->parameters();
      {
        const torch::NoGradGuard no_grad;
        for (const torch::Tensor& parameter : parameters) torch::Tensor(parameter).fill_(0.25);
        parameters[2].view({-1}).mul_(2.0);
      }
      {
        GatheredParameters scope(engine, {parameters[4]}, /*modifier_rank=*/1);
        const torch::NoGradGuard no_grad;
        if (engine.rank() == 1) torch::Tensor(parameters[4]).fill_(0.75);
        scope.finish();
      }
      train_tower(engine, 0, 2);  // with a learning rate of zero: parameters come back from the masters
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const torch::Tensor value = parameters[i].to(torch::kFloat);
        const double expected = i == 2 ? 0.5 : i == 4 ? 0.75 : 0.25;
        EXPECT_TRUE(torch::all(value == expected).item<bool>()) << i;
      }
    });
  }
}

TEST(ParameterOffload, CheckpointsLoadWhereverTheParametersAre) {
  struct Place {
    int stage, world_size;
    OffloadDevice parameters, optimizer;
  };
  const std::vector<Place> places = {{1, 2, OffloadDevice::kNone, OffloadDevice::kNone},
                                     {3, 1, OffloadDevice::kNvme, OffloadDevice::kNone},
                                     {3, 2, OffloadDevice::kNvme, OffloadDevice::kNvme},
                                     {3, 2, OffloadDevice::kNone, OffloadDevice::kCpu}};
  const auto config_at = [](const Place& place, DType dtype, const TemporaryFolder& folder) {
    Config config = tower_config(dtype, place.parameters, folder);
    config.zero.stage = place.stage;
    config.zero.offload_optimizer.device = place.optimizer;
    config.gradient_clipping = 0.0;
    return config;
  };
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const Place& saved : places) {
      for (const Place& loaded : places) {
        if (saved.parameters == OffloadDevice::kNone && loaded.parameters == OffloadDevice::kNone) continue;
        SCOPED_TRACE(fmt::format("{}: from stage {} on {} ranks to stage {} on {}", dtype_name(dtype),
                                 saved.stage, saved.world_size, loaded.stage, loaded.world_size));
        const TemporaryFolder folder;
        const std::string checkpoint = (folder.path() / "checkpoint").string();
        torch::Tensor expected, restored;
        const auto first_weight = [](torch::nn::Sequential& model) {
          return model->parameters().front().detach().clone();
        };
        with_towers(saved.world_size, config_at(saved, dtype, folder),
                    [&](Engine& engine, torch::nn::Sequential& model) {
                      train_tower(engine, 0, 3);
                      engine.save_checkpoint(checkpoint);
                      const torch::Tensor weight = first_weight(model);
                      if (engine.rank() == 0) expected = weight;
                    });
        with_towers(loaded.world_size, config_at(loaded, dtype, folder),
                    [&](Engine& engine, torch::nn::Sequential& model) {
                      engine.load_checkpoint(checkpoint);
                      const torch::Tensor weight = first_weight(model);
                      if (engine.rank() == 0) restored = weight;
                      for (const double loss : train_tower(engine, 3, 2)) EXPECT_TRUE(std::isfinite(loss));
                    });
        EXPECT_TRUE(torch::equal(restored, expected));
      }
    }
  }
}

TEST(ParameterOffload, GoesOnFromACheckpointAsIfItHadNotStopped) {
  for (const int world_size : {1, 2}) {
    const TemporaryFolder folder;
    const std::string checkpoint = (folder.path() / "checkpoint").string();
    Config config = tower_config(DType::kBFloat16, OffloadDevice::kNvme, folder);
    config.zero.offload_optimizer.device = OffloadDevice::kNvme;
    std::vector<double> expected, resumed;
    with_towers(world_size, config, [&](Engine& engine, torch::nn::Sequential&) {
      train_tower(engine, 0, 3);
      engine.save_checkpoint(checkpoint, {.in_background = world_size == 2});
      const std::vector<double> here = train_tower(engine, 3, 3);
      engine.wait_for_checkpoint();
      if (engine.rank() == 0) expected = here;
    });
    with_towers(world_size, config, [&](Engine& engine, torch::nn::Sequential&) {
      engine.load_checkpoint(checkpoint);
      const std::vector<double> here = train_tower(engine, 3, 3);
      if (engine.rank() == 0) resumed = here;
    });
    EXPECT_EQ(resumed, expected);
  }
}

TEST(ParameterOffload, AModelIsSavedFromTheFile) {
  const auto saved_bytes = [](OffloadDevice parameters) {
    const TemporaryFolder folder;
    const std::string place = (folder.path() / "model").string();
    with_towers(1, tower_config(DType::kBFloat16, parameters, folder),
                [&](Engine& engine, torch::nn::Sequential&) { engine.save_16bit_model(place); });
    std::ifstream file(fs::path(place) / "model.safetensors", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string expected = saved_bytes(OffloadDevice::kNone);
  EXPECT_GT(expected.size(), static_cast<std::size_t>(kLayers * kLayerNumel * 2));
  EXPECT_EQ(saved_bytes(OffloadDevice::kNvme), expected);
}

TEST(ParameterOffload, BelowStage3IsWithoutEffect) {
  const TemporaryFolder folder;
  Config config = tower_config(DType::kFloat32, OffloadDevice::kNvme, folder);
  config.zero.stage = 2;
  config.zero.offload_param.nvme_path = (folder.path() / "never made").string();
  with_towers(1, config, [](Engine& engine, torch::nn::Sequential& model) {
    EXPECT_NO_THROW(model->parameters().front().data_ptr<float>());
    train_tower(engine, 0, 1);
  });
  EXPECT_FALSE(fs::exists(config.zero.offload_param.nvme_path));
}

TEST(ParameterOffload, AnUnusableFolderIsNamed) {
  const TemporaryFolder folder;
  Config config = tower_config(DType::kFloat32, OffloadDevice::kNvme, folder);
  config.zero.offload_param.nvme_path = (folder.write("file", "no folder") / "below").string();
  const auto refusal = refusal_of([&] { with_towers(1, config, [](Engine&, torch::nn::Sequential&) {}); });
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, HasSubstr(config.zero.offload_param.nvme_path));
}

}  // namespace
}  // namespace deepscale::testing
