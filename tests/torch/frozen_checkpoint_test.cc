// Frozen parameters in checkpoints: at stage 3 every rank writes its shards of them, and they load at any
// stage, on any number of ranks, in memory or in files.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "comm/base/error.h"
#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/engine/engine.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr std::int64_t kWidth = 31;

// All but the adapter is frozen. At stage 3 `scale` is there all the time, `picked` is no sharded one since
// it has integers, and the others are sharded. `strided` lies in every second element of its memory, and
// `turned` column by column.
struct AdaptedImpl : torch::nn::Module {
  explicit AdaptedImpl(std::int64_t width = kWidth, std::int64_t average_numel = 100) {
    adapter = register_module("adapter", torch::nn::Linear(kWidth, kWidth));
    base = register_parameter("base", torch::arange(width * kWidth).view({width, kWidth}) / 7.0,
                              /*requires_grad=*/false);
    scale = register_parameter("scale", torch::arange(kWidth) / 5.0, /*requires_grad=*/false);
    strided = register_parameter("strided", torch::arange(120).view({60, 2}).to(torch::kFloat).select(1, 1),
                                 /*requires_grad=*/false);
    turned = register_parameter("turned", torch::arange(120).view({60, 2}).to(torch::kFloat).t(),
                                /*requires_grad=*/false);
    picked = register_parameter("picked", torch::arange(1000, 1000 + kWidth), /*requires_grad=*/false);
    average = register_parameter("average", torch::ones({average_numel}), /*requires_grad=*/false);
  }
  torch::Tensor forward(const torch::Tensor& input) {
    return adapter->forward(torch::linear(input, base)) * scale * (picked - 999);
  }
  torch::nn::Linear adapter = nullptr;
  std::vector<torch::Tensor> frozen() const { return {base, scale, strided, turned, picked, average}; }
  torch::Tensor base, scale, strided, turned, picked, average;
};
TORCH_MODULE(Adapted);

struct Ranks {
  int stage;
  int world;
  bool in_files = false;
  std::int64_t average_numel = 100;
  DType dtype = DType::kFloat32;
};

std::string text_of(const Ranks& ranks) {
  return fmt::format("stage {}, {} ranks{}, {}", ranks.stage, ranks.world, ranks.in_files ? ", in files" : "",
                     dtype_name(ranks.dtype));
}

using Use = std::function<void(Engine&, AdaptedImpl&)>;

void with_engines(const Ranks& ranks, const TemporaryFolder& folder, const Use& use) {
  Config config;
  config.dtype = ranks.dtype;
  config.optimizer = OptimizerConfig{.lr = 1e-3};
  config.zero = {.stage = ranks.stage, .max_live_parameters = 1000, .param_persistence_threshold = 50};
  if (ranks.in_files) {
    config.zero.offload_param.device = OffloadDevice::kNvme;
    config.zero.offload_param.nvme_path = (folder.path() / "offloaded").string();
    fs::create_directories(config.zero.offload_param.nvme_path);
  }
  run_ranks(ranks.world, [&](int, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    Adapted model(kWidth, ranks.average_numel);
    const auto engine = initialize(model, config, rank_options(communicator));
    use(*engine, *model);
  });
}

void train_step(Engine& engine) {
  engine.backward(engine.forward(torch::ones({2, kWidth})).square().mean());
  engine.step();
}

// Another program's values. Collective.
void change(AdaptedImpl& model) {
  const torch::NoGradGuard no_grad;
  for (const torch::Tensor& tensor : model.frozen()) tensor.add_(1);
}

// Collective.
std::vector<torch::Tensor> values_of(const AdaptedImpl& model) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> values;
  for (const torch::Tensor& tensor : model.frozen()) values.push_back(tensor.clone());
  return values;
}

void expect_equal(const std::vector<torch::Tensor>& values, const std::vector<torch::Tensor>& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(torch::equal(values[i], expected[i])) << i;
}

TEST(FrozenCheckpoint, HasEveryElementOnceAndOfEachRankItsShards) {
  for (const int stage : {0, 1, 2, 3}) {
    SCOPED_TRACE(stage);
    const TemporaryFolder folder;
    with_engines({.stage = stage, .world = 3}, folder, [&](Engine& engine, AdaptedImpl&) {
      engine.save_checkpoint(folder.path().string(), {.tag = "t"});
    });
    const fs::path saved = folder.path() / "t";
    std::map<std::string, std::int64_t> numel;
    for (const std::string& name : read_checkpoint_index(saved).files) {
      const SafetensorsReader file(saved / name);
      for (const auto& [tensor, entry] : file.entries()) {
        const std::string parameter = tensor.substr(0, tensor.find('/'));
        if (tensor.find("/frozen@") == std::string::npos) continue;
        numel[parameter] += entry.shape.at(0);
        if (parameter == "base" && stage == 3) {
          EXPECT_LE(entry.shape.at(0), kWidth * kWidth / 2) << name;
        }
      }
    }
    EXPECT_EQ(numel, (std::map<std::string, std::int64_t>{{"average", 100},
                                                          {"base", kWidth * kWidth},
                                                          {"picked", kWidth},
                                                          {"scale", kWidth},
                                                          {"strided", 60},
                                                          {"turned", 120}}));
  }
}

TEST(FrozenCheckpoint, LoadsAtAnyStageOnAnyNumberOfRanks) {
  std::vector<Ranks> all;
  for (const int stage : {0, 2, 3}) {
    for (const int world : {1, 2, 3}) all.push_back({.stage = stage, .world = world});
  }
  for (const int world : {1, 2}) all.push_back({.stage = 3, .world = world, .in_files = true});
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (Ranks saved : all) {
      saved.dtype = dtype;
      const TemporaryFolder folder;
      with_engines(saved, folder, [&](Engine& engine, AdaptedImpl& model) {
        change(model);
        engine.save_checkpoint(folder.path().string());
      });
      for (Ranks loaded : all) {
        loaded.dtype = dtype;
        SCOPED_TRACE(text_of(saved) + " to " + text_of(loaded));
        with_engines(loaded, folder, [&](Engine& engine, AdaptedImpl& model) {
          change(model);
          const auto expected = values_of(model);
          change(model);
          engine.load_checkpoint(folder.path().string());
          expect_equal(values_of(model), expected);
          train_step(engine);
        });
      }
    }
  }
}

TEST(FrozenCheckpoint, HasWhatTheProgramChangedOnRankZeroAlone) {
  for (const int stage : {0, 1, 2}) {
    SCOPED_TRACE(stage);
    const TemporaryFolder folder;
    with_engines({.stage = stage, .world = 2}, folder, [&](Engine& engine, AdaptedImpl& model) {
      auto expected = values_of(model);
      for (torch::Tensor& tensor : expected) tensor.add_(1);
      if (engine.rank() == 0) change(model);
      engine.save_checkpoint(folder.path().string());
      engine.load_checkpoint(folder.path().string());
      expect_equal(values_of(model), expected);
    });
  }
}

TEST(FrozenCheckpoint, HasWhatOneRankChangedWithinGatheredParameters) {
  for (const int stage : {1, 3}) {
    SCOPED_TRACE(stage);
    const TemporaryFolder folder;
    with_engines({.stage = stage, .world = 2}, folder, [&](Engine& engine, AdaptedImpl& model) {
      auto expected = values_of(model);
      for (torch::Tensor& tensor : expected) tensor.add_(1);
      {
        GatheredParameters scope(engine, model.frozen(), /*modifier_rank=*/1);
        if (engine.rank() == 1) change(model);
      }
      expect_equal(values_of(model), expected);
      engine.save_checkpoint(folder.path().string());
      change(model);
      engine.load_checkpoint(folder.path().string());
      expect_equal(values_of(model), expected);
    });
  }
}

// An average of the model's weights, say, which the program moves after every step, and which is large enough
// to be still written then.
TEST(FrozenCheckpoint, InTheBackgroundHoldsWhatWasThereBeforeTheStep) {
  for (Ranks ranks : std::vector<Ranks>{{0, 2}, {1, 1}, {2, 2}, {3, 2}, {3, 2, true}}) {
    ranks.average_numel = 4'000'000;
    SCOPED_TRACE(text_of(ranks));
    const TemporaryFolder folder;
    with_engines(ranks, folder, [&](Engine& engine, AdaptedImpl& model) {
      train_step(engine);
      const auto expected = values_of(model);
      engine.save_checkpoint(folder.path().string(), {.in_background = true});
      train_step(engine);
      change(model);
      engine.wait_for_checkpoint();
      engine.load_checkpoint(folder.path().string());
      expect_equal(values_of(model), expected);
    });
  }
}

TEST(FrozenCheckpoint, OfAnotherTypeOrShapeIsRefused) {
  const TemporaryFolder folder;
  with_engines({.stage = 3, .world = 2}, folder,
               [&](Engine& engine, AdaptedImpl&) { engine.save_checkpoint(folder.path().string()); });
  const Ranks bf16 = {.stage = 3, .world = 2, .dtype = DType::kBFloat16};
  with_engines(bf16, folder, [&](Engine& engine, AdaptedImpl&) {
    const Refusal refusal = refusal_of([&] { engine.load_checkpoint(folder.path().string()); });
    EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refusal.message, HasSubstr("of type F32 there and BF16 here"));
    EXPECT_EQ(engine.global_steps(), 0);
  });
  run_ranks(1, [&](int, const std::shared_ptr<Communicator>& communicator) {
    Config config;
    config.optimizer = OptimizerConfig{};
    const Adapted narrow(kWidth - 1);
    const auto engine = initialize(narrow, config, rank_options(communicator));
    const Refusal refusal = refusal_of([&] { engine->load_checkpoint(folder.path().string()); });
    EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refusal.message, HasSubstr("frozen parameter 'base' is [30,31] here and [31,31] there"));
  });
}

}  // namespace
}  // namespace deepscale::testing
