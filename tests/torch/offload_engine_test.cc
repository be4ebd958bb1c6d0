// Training with the optimizer offloaded, to memory or to files, is the same training, bit by bit, and so is
// going on from a checkpoint that was saved with another place for the state.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int kSteps = 4;

// Chunks of two pages, so that segments lie across chunks and chunks hold several segments.
Config config_of(int stage, DType dtype, OffloadDevice device, const TemporaryFolder& folder) {
  Config config;
  config.dtype = dtype;
  config.gradient_clipping = 0.5;
  config.optimizer = OptimizerConfig{.lr = 4e-3, .betas = {0.9, 0.98}, .eps = 1e-6, .weight_decay = 0.05};
  config.loss_scale.initial_scale_power = 8;
  config.gradient_accumulation_steps = 3;
  config.zero = {.stage = stage,
                 .reduce_bucket_size = 400,
                 .max_live_parameters = 1500,
                 .prefetch_bucket_size = 300,
                 .param_persistence_threshold = 40,
                 .sub_group_size = 2000};
  config.zero.offload_optimizer = {.device = device, .nvme_path = folder.path().string()};
  config.aio = {.block_size = 4096, .queue_depth = 2};
  return config;
}

struct Case {
  int stage, world_size;
  DType dtype;
  OffloadDevice device;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  double ratio = 1.0;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      all.push_back({0, 1, dtype, device});
      for (const int stage : {0, 1, 2, 3}) all.push_back({stage, 2, dtype, device});
    }
    all.push_back({2, 3, DType::kFloat16, device});
  }
  for (const OptimizerKind optimizer : {OptimizerKind::kLion, OptimizerKind::kAdagrad, OptimizerKind::kSgd})
    all.push_back({1, 2, DType::kFloat32, OffloadDevice::kNvme, optimizer});
  for (const double ratio : {0.0, 0.5}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      for (const int world_size : {1, 2})
        all.push_back({3, world_size, dtype, OffloadDevice::kNvme, OptimizerKind::kAdamW, ratio});
    }
  }
  return all;
}

std::string name_of(const Case& c) {
  const char* place = c.device == OffloadDevice::kCpu ? "Cpu" : "Nvme";
  return fmt::format("Stage{}World{}{}{}Optimizer{}Percent{:.0f}", c.stage, c.world_size, dtype_name(c.dtype),
                     place, static_cast<int>(c.optimizer), 100 * c.ratio);
}

class Offload : public ::testing::TestWithParam<Case> {};

TEST_P(Offload, EqualsNoOffload) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  Config config = config_of(c.stage, c.dtype, OffloadDevice::kNone, folder);
  config.optimizer->kind = c.optimizer;
  const TrainingResult expected = train_with_engines(c.world_size, config, kSteps);
  config.zero.offload_optimizer.device = c.device;
  config.zero.offload_optimizer.ratio = c.ratio;
  const TrainingResult result = train_with_engines(c.world_size, config, kSteps);
  EXPECT_EQ(result.losses, expected.losses);
  expect_equal_parameters(result, expected, 0.0);
  expect_equal_ranks(result);
  EXPECT_TRUE(fs::is_empty(folder.path())) << "a state file was left behind";
}

INSTANTIATE_TEST_SUITE_P(Engine, Offload, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return name_of(info.param); });

std::vector<double> train(Engine& engine, int first, int steps) {
  std::vector<double> losses;
  const std::int64_t rows = kGlobalBatch / engine.world_size();
  for (int step = first; step < first + steps; ++step) {
    const TokenBatch batch = global_batch(step).rows(engine.rank() * rows, rows);
    const torch::Tensor loss = token_loss(engine.forward(batch.tokens), batch.targets);
    engine.backward(loss);
    engine.step();
    losses.push_back(loss.item<double>());
  }
  return losses;
}

// Runs `use` on an Engine of each of two ranks; returns rank 0's losses.
std::vector<double> with_engines(const Config& config,
                                 const std::function<std::vector<double>(Engine&)>& use) {
  const std::vector<Patchwork> models = make_patchworks(2);
  std::vector<double> losses;
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    const auto engine =
        initialize(models[static_cast<std::size_t>(rank)], config, rank_options(communicator));
    std::vector<double> here = use(*engine);
    if (rank == 0) losses = std::move(here);
  });
  return losses;
}

TEST(OffloadCheckpoint, LoadsWhereverTheStateIs) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const OffloadDevice saved : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
      for (const OffloadDevice loaded : {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
        SCOPED_TRACE(fmt::format("{}: {} to {}", dtype_name(dtype), static_cast<int>(saved),
                                 static_cast<int>(loaded)));
        const TemporaryFolder folder;
        const std::string checkpoint = (folder.path() / "checkpoint").string();
        Config before = config_of(1, dtype, saved, folder);
        Config after = config_of(3, dtype, loaded, folder);
        before.gradient_accumulation_steps = after.gradient_accumulation_steps = 1;
        const std::vector<double> expected = with_engines(before, [&](Engine& engine) {
          train(engine, 0, 3);
          engine.save_checkpoint(checkpoint);
          return train(engine, 3, 3);
        });
        const std::vector<double> resumed = with_engines(after, [&](Engine& engine) {
          engine.load_checkpoint(checkpoint);
          return train(engine, 3, 3);
        });
        ASSERT_EQ(resumed.size(), expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i)
          EXPECT_NEAR(resumed[i], expected[i], 1e-6 * expected[i]) << "step " << i;
      }
    }
  }
}

InitializeOptions alone() {
  InitializeOptions options;
  options.device = torch::kCPU;
  options.logger = Logger();
  return options;
}

// What is in files is no memory; what stays is a fixed number of buffers.
TEST(OffloadMemory, IsWhatTheBuffersTake) {
  const TemporaryFolder folder;
  Config config = config_of(0, DType::kBFloat16, OffloadDevice::kNvme, folder);
  config.zero.sub_group_size = 1024;
  const auto engine = initialize(make_patchwork(), config, alone());
  EXPECT_EQ(engine->memory().optimizer_state, 3 * 3 * 4096 + (1 << 20));
}

TEST(OffloadErrors, AnUnusableFolderIsNamed) {
  const TemporaryFolder folder;
  Config config = config_of(0, DType::kFloat32, OffloadDevice::kNvme, folder);
  config.zero.offload_optimizer.nvme_path = (folder.write("file", "no folder") / "below").string();
  const auto refusal = refusal_of([&] { initialize(make_patchwork(), config, alone()); });
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, HasSubstr(config.zero.offload_optimizer.nvme_path));
}

}  // namespace
}  // namespace deepscale::testing
