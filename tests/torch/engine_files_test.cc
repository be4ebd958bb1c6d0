// What an Engine writes to files, and parameters that a program reads and changes: checkpoints beside
// training, the model for transformers, monitors, GatheredParameters.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "comm/base/error.h"
#include "runtime/checkpoint/model_folder.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/tools/consolidate.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr std::int64_t kWidth = 30;

struct NetImpl : torch::nn::Module {
  NetImpl() {
    torch::manual_seed(9);
    first = register_module("first", torch::nn::Linear(kWidth, kWidth));
    second = register_module("second", torch::nn::Linear(kWidth, kWidth));
    scale = register_parameter("scale", torch::full({kWidth}, 2.0), /*requires_grad=*/false);
    shift = register_buffer("shift", torch::full({kWidth}, 0.5));
  }
  torch::Tensor forward(const torch::Tensor& input) {
    return second->forward(torch::tanh(first->forward(input))) * scale + shift;
  }
  torch::nn::Linear first = nullptr, second = nullptr;
  torch::Tensor scale, shift;
};
TORCH_MODULE(Net);

Config config_of(int stage, DType dtype = DType::kFloat32) {
  Config config;
  config.dtype = dtype;
  config.micro_batch_size = 4;
  config.optimizer = OptimizerConfig{.lr = 1e-2};
  config.zero = {.stage = stage,
                 .reduce_bucket_size = 1000,
                 .max_live_parameters = 2000,
                 .prefetch_bucket_size = 100,
                 .param_persistence_threshold = 50,
                 .gather_16bit_weights_on_model_save = true};
  return config;
}

using UseEngine = std::function<void(Engine&, NetImpl&)>;

void with_engines(int world_size, const Config& config, const UseEngine& use) {
  std::vector<Net> models(static_cast<std::size_t>(world_size));
  for (Net& model : models) model = Net();
  run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    Net& model = models[static_cast<std::size_t>(rank)];
    const auto engine = initialize(model, config, rank_options(communicator));
    use(*engine, *model);
  });
}

double train_step(Engine& engine, int step) {
  const torch::Tensor input =
      torch::linspace(-1, 1 + step, 4 * kWidth).view({4, kWidth}) * (engine.rank() + 1);
  const torch::Tensor loss = engine.forward(input).square().mean();
  engine.backward(loss);
  engine.step();
  return loss.item<double>();
}

TEST(BackgroundCheckpoint, HoldsWhatWasThereWhenItWasStarted) {
  for (int stage = 0; stage <= 3; ++stage) {
    SCOPED_TRACE(fmt::format("stage {}", stage));
    const TemporaryFolder folder;
    const std::string path = folder.path().string();
    with_engines(2, config_of(stage), [&](Engine& engine, NetImpl&) {
      for (int step = 0; step < 3; ++step) train_step(engine, step);
      const std::int64_t samples = engine.samples_seen();
      EXPECT_EQ(samples, 3 * 4 * 2);
      engine.save_checkpoint(path, {.client_state = "three", .in_background = true});
      std::vector<double> losses;
      for (int step = 3; step < 6; ++step) losses.push_back(train_step(engine, step));
      engine.wait_for_checkpoint();
      const LoadedCheckpoint loaded = engine.load_checkpoint(path);
      EXPECT_EQ(loaded.client_state, "three");
      EXPECT_EQ(loaded.samples, samples);
      EXPECT_EQ(engine.global_steps(), 3);
      std::vector<double> again;
      for (int step = 3; step < 6; ++step) again.push_back(train_step(engine, step));
      EXPECT_EQ(again, losses);
    });
  }
}

// The first layer takes a while to copy, the last is written to at once.
TEST(BackgroundCheckpoint, HoldsWhatWasThereBeforeTheProgramWroteToAParameter) {
  constexpr std::int64_t kMany = 2000;
  for (const int stage : {0, 1, 2, 3}) {
    SCOPED_TRACE(fmt::format("stage {}", stage));
    const TemporaryFolder folder;
    const std::string path = folder.path().string();
    torch::nn::Linear last[] = {torch::nn::Linear(kMany, 3), torch::nn::Linear(kMany, 3)};
    run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
      const torch::Tensor weight = last[rank]->weight;
      const auto engine = initialize(torch::nn::Sequential(torch::nn::Linear(kMany, kMany), last[rank]).ptr(),
                                     config_of(stage), rank_options(communicator));
      const auto sum = [&] { return weight.detach().abs().sum().item<double>(); };
      const double before = sum();
      engine->save_checkpoint(path, {.in_background = true});
      {
        GatheredParameters scope(*engine, {weight}, 0);
        if (rank == 0) weight.detach().zero_();
      }
      EXPECT_EQ(sum(), 0.0);
      engine->load_checkpoint(path);
      EXPECT_EQ(sum(), before);
    });
  }
}

TEST(BackgroundCheckpoint, IsCompleteAfterTheEngineAndKeepsTheLastOnes) {
  const TemporaryFolder folder;
  with_engines(2, config_of(3), [&](Engine& engine, NetImpl&) {
    for (int step = 0; step < 4; ++step) {
      train_step(engine, step);
      engine.save_checkpoint(folder.path().string(), {.in_background = true, .keep_last = 2});
    }
  });
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    left.push_back(entry.path().filename().string());
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("global_step3", "global_step4", "latest"));
  with_engines(2, config_of(3), [&](Engine& engine, NetImpl&) {
    EXPECT_EQ(engine.load_checkpoint(folder.path().string()).tag, "global_step4");
  });
}

TEST(BackgroundCheckpoint, ThatFailsSaysSoOnEveryRankAndTrainingGoesOn) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a file", "").string();
  with_engines(2, config_of(1), [&](Engine& engine, NetImpl&) {
    engine.save_checkpoint(path, {.in_background = true});
    train_step(engine, 0);
    EXPECT_THAT(refusal_of([&] { engine.wait_for_checkpoint(); }).message, HasSubstr("a file"));
    train_step(engine, 1);
    engine.save_checkpoint((folder.path() / "good").string(), {.tag = "t"});
    EXPECT_EQ(engine.load_checkpoint((folder.path() / "good").string()).tag, "t");
  });
}

TEST(BackgroundCheckpoint, ThatIsLostWithTheEngineIsTold) {
  InitializeOptions alone;
  alone.logger = Logger("rank 0", LogLevel::kError);
  ::testing::internal::CaptureStderr();
  initialize(Net(), config_of(0), alone)->save_checkpoint("/dev/null/nowhere", {.in_background = true});
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("/dev/null/nowhere"));
}

std::map<std::string, torch::Tensor> weights_in(const fs::path& file) {
  std::map<std::string, torch::Tensor> weights;
  SafetensorsReader reader(file);
  for (const auto& [name, entry] : reader.entries()) {
    const torch::Tensor values =
        torch::empty(entry.shape, entry.dtype == "BF16" ? torch::kBFloat16 : torch::kFloat);
    reader.read(name, values.data_ptr());
    weights[name] = values;
  }
  return weights;
}

TEST(SavedModel, HasTheModelsWeightsAtEveryStage) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (int stage = 0; stage <= 3; ++stage) {
      SCOPED_TRACE(fmt::format("stage {}, {}", stage, dtype_name(dtype)));
      const TemporaryFolder folder;
      const fs::path saved = folder.path() / "model", checkpoint = folder.path() / "checkpoint";
      std::map<std::string, torch::Tensor> in_model;
      with_engines(2, config_of(stage, dtype), [&](Engine& engine, NetImpl& model) {
        for (int step = 0; step < 2; ++step) train_step(engine, step);
        engine.save_16bit_model(saved.string());
        engine.save_checkpoint(checkpoint.string());
        for (const auto& entry : model.named_parameters()) {
          const torch::Tensor values = entry.value().detach().clone();
          if (engine.rank() == 0) in_model[entry.key()] = values;
        }
        if (engine.rank() == 0) in_model["shift"] = model.shift.clone();
      });
      const auto weights = weights_in(saved / "model.safetensors");
      consolidate({.checkpoint = checkpoint, .output = folder.path() / "fp32"});
      const auto masters = weights_in(folder.path() / "fp32" / "model.safetensors");
      ASSERT_EQ(weights.size(), in_model.size());
      ASSERT_EQ(masters.size(), in_model.size());
      for (const auto& [name, values] : in_model) {
        EXPECT_TRUE(torch::equal(weights.at(name), values)) << name;
        EXPECT_EQ(masters.at(name).scalar_type(), torch::kFloat) << name;
        EXPECT_TRUE(torch::equal(masters.at(name).to(values.scalar_type()), values)) << name;
      }
    }
  }
}

TEST(SavedModel, AtStage3AsksForTheKey) {
  const TemporaryFolder folder;
  Config config = config_of(3);
  config.zero.gather_16bit_weights_on_model_save = false;
  with_engines(2, config, [&](Engine& engine, NetImpl&) {
    EXPECT_THAT(refusal_of([&] { engine.save_16bit_model(folder.path().string()); }).message,
                HasSubstr("stage3_gather_16bit_weights_on_model_save"));
  });
}

TEST(GatheredParameters, AreReadByOneRankAloneAndChangedByAnother) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (int stage = 0; stage <= 3; ++stage) {
      SCOPED_TRACE(fmt::format("stage {}, {}", stage, dtype_name(dtype)));
      with_engines(2, config_of(stage, dtype), [&](Engine& engine, NetImpl& model) {
        train_step(engine, 0);
        const std::vector<torch::Tensor> all = {model.first->weight, model.second->weight, model.first->bias};
        {
          const GatheredParameters scope(engine, all);
          if (engine.rank() == 1) {
            EXPECT_NE(model.first->weight.data_ptr(), nullptr);
            EXPECT_GT(model.first->weight.abs().sum().item<double>(), 0.0);
          }
        }
        {
          const GatheredParameters scope(engine, all, /*modifier_rank=*/1);
          if (engine.rank() == 1) {
            const torch::NoGradGuard no_grad;
            model.first->weight.fill_(0.25);
            model.first->bias.fill_(-1.5);
          }
        }
        EXPECT_EQ(model.first->weight.detach().to(torch::kFloat).mean().item<double>(), 0.25);
        EXPECT_EQ(model.first->bias.detach().to(torch::kFloat).mean().item<double>(), -1.5);
        EXPECT_NE(model.second->weight.detach().to(torch::kFloat).std().item<double>(), 0.0);
        train_step(engine, 1);  // Adam's step is at most about the learning rate
        EXPECT_NEAR(model.first->weight.detach().to(torch::kFloat).mean().item<double>(), 0.25, 0.03);
        EXPECT_NE(model.first->weight.detach().to(torch::kFloat).std().item<double>(), 0.0);
      });
    }
  }
}

// Its 16-bit values say less than a master, which others must not start anew from.
TEST(GatheredParameters, KeepTheMastersOfWhatIsNotChanged) {
  for (int stage = 0; stage <= 3; ++stage) {
    SCOPED_TRACE(fmt::format("stage {}", stage));
    const TemporaryFolder folder;
    with_engines(2, config_of(stage, DType::kBFloat16), [&](Engine& engine, NetImpl& model) {
      for (int step = 0; step < 3; ++step) train_step(engine, step);
      engine.save_checkpoint((folder.path() / "before").string());
      {
        const GatheredParameters scope(engine, {model.first->bias}, /*modifier_rank=*/0);
        const torch::NoGradGuard no_grad;
        if (engine.rank() == 0) model.first->bias.fill_(0.5);
      }
      engine.save_checkpoint((folder.path() / "after").string());
    });
    std::map<std::string, torch::Tensor> masters[2];
    for (int i = 0; i < 2; ++i) {
      const fs::path name = i == 0 ? "before" : "after";
      consolidate({.checkpoint = folder.path() / name, .output = folder.path() / name / "fp32"});
      masters[i] = weights_in(folder.path() / name / "fp32" / "model.safetensors");
    }
    for (const auto& [name, values] : masters[0]) {
      if (name == "first.bias") {
        EXPECT_TRUE(torch::equal(masters[1].at(name), torch::full_like(values, 0.5)));
      } else {
        EXPECT_TRUE(torch::equal(masters[1].at(name), values)) << name;
      }
    }
    const torch::Tensor& other = masters[0].at("second.bias");
    EXPECT_FALSE(torch::equal(other.to(torch::kBFloat16).to(torch::kFloat), other)) << "finer than bf16";
  }
}

TEST(GatheredParameters, RefusesARankThatIsNotThere) {
  with_engines(1, config_of(0), [&](Engine& engine, NetImpl& model) {
    EXPECT_EQ(refusal_of([&] { GatheredParameters(engine, {model.first->weight}, 3); }).code,
              ErrorCode::kInvalidArgument);
  });
}

TEST(Observers, LeaveACommunicatorThatCanBeSplit) {
  Config config = config_of(1);
  config.comms_logger.enabled = true;
  with_engines(2, config, [&](Engine& engine, NetImpl&) {
    const auto part = engine.communicator().split(engine.rank(), 0);
    EXPECT_EQ(part->size(), 1);
  });
}

TEST(Observers, WriteTheLossAndCountTheCollectives) {
  const TemporaryFolder folder;
  Config config = config_of(2);
  config.wall_clock_breakdown = true;
  config.csv_monitor = {.enabled = true, .output_path = folder.path().string(), .job_name = "job"};
  config.comms_logger.enabled = true;
  std::vector<double> losses;
  with_engines(2, config, [&](Engine& engine, NetImpl&) {
    for (int step = 0; step < 3; ++step) {
      const double loss = train_step(engine, step);
      if (engine.rank() == 0) losses.push_back(loss);
    }
    EXPECT_THAT(engine.communication_summary(), HasSubstr("reduce_scatter"));
    EXPECT_THAT(engine.communication_summary(), HasSubstr("all_gather"));
  });
  std::ifstream file(folder.path() / "job" / "Train_Samples_train_loss.csv");
  std::string line;
  std::getline(file, line);
  for (std::size_t step = 0; step < losses.size(); ++step) {
    std::int64_t samples = 0;
    double loss = 0.0;
    char comma = 0;
    ASSERT_TRUE(file >> samples >> comma >> loss);
    EXPECT_EQ(samples, static_cast<std::int64_t>(8 * (step + 1)));
    EXPECT_NEAR(loss, losses[step], 1e-5 * losses[step]);
  }
  EXPECT_TRUE(fs::exists(folder.path() / "job" / "Train_Samples_elapsed_time_ms_backward.csv"));
  with_engines(1, config_of(0),
               [&](Engine& engine, NetImpl&) { EXPECT_EQ(engine.communication_summary(), ""); });
}

}  // namespace
}  // namespace deepscale::testing
