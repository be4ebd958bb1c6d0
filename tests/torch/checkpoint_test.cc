// Checkpoints: going on from one equals no interruption, at any other stage and world size; whatever is wrong
// with one is an Error that names the file, and a save that fails leaves the earlier one.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int kSteps = 5;  // before the interruption, and after it

Config config_of(int stage, DType dtype = DType::kFloat32) {
  Config config;
  config.dtype = dtype;
  config.gradient_clipping = 0.5;
  config.optimizer = OptimizerConfig{.lr = 4e-3, .betas = {0.9, 0.98}, .eps = 1e-6, .weight_decay = 0.05};
  config.scheduler.kind = SchedulerKind::kWarmupLr;
  config.scheduler.warmup_num_steps = 8;
  config.loss_scale.initial_scale_power = 8;
  config.loss_scale.loss_scale_window = 3;
  config.zero = {.stage = stage,
                 .reduce_bucket_size = 400,
                 .max_live_parameters = 1500,
                 .prefetch_bucket_size = 300,
                 .param_persistence_threshold = 40};
  return config;
}

// Trains from `first` on; the mean losses over the ranks.
std::vector<double> train(Engine& engine, int first, int steps) {
  std::vector<double> losses;
  const std::int64_t rows = kGlobalBatch / engine.world_size();
  for (int step = first; step < first + steps; ++step) {
    const TokenBatch batch = global_batch(step).rows(engine.rank() * rows, rows);
    const torch::Tensor loss = token_loss(engine.forward(batch.tokens), batch.targets);
    engine.backward(loss);
    engine.step();
    double mean = loss.item<double>();
    engine.communicator()
        .all_reduce({.data = &mean, .count = 1, .dtype = DType::kInt64}, ReduceOp::kMax)
        .wait();  // a positive double orders as its bits do
    losses.push_back(mean);
  }
  return losses;
}

using RankEngine = std::function<void(Engine&)>;

// Runs `use` on an Engine of each rank, with a model of the same initial values.
void with_engines(int world_size, const Config& config, const RankEngine& use) {
  const std::vector<Patchwork> models = make_patchworks(world_size);
  run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    const auto engine =
        initialize(models[static_cast<std::size_t>(rank)], config, rank_options(communicator));
    use(*engine);
  });
}

struct Case {
  int saved_stage, saved_world, loaded_stage, loaded_world;
  DType dtype;
};

class Resume : public ::testing::TestWithParam<Case> {};

TEST_P(Resume, EqualsNoInterruption) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  std::vector<double> expected, resumed;
  double expected_scale = 0.0;
  with_engines(c.loaded_world, config_of(c.loaded_stage, c.dtype), [&](Engine& engine) {
    train(engine, 0, kSteps);
    const auto losses = train(engine, kSteps, kSteps);
    if (engine.rank() != 0) return;
    expected = losses;
    expected_scale = engine.loss_scale();
  });
  with_engines(c.saved_world, config_of(c.saved_stage, c.dtype), [&](Engine& engine) {
    train(engine, 0, kSteps);
    engine.save_checkpoint(folder.path().string(), {.client_state = "row 180"});
    train(engine, kSteps, 1);  // what comes after the save is not in it
  });
  with_engines(c.loaded_world, config_of(c.loaded_stage, c.dtype), [&](Engine& engine) {
    train(engine, 100, 2);  // leaves nothing behind
    const LoadedCheckpoint loaded = engine.load_checkpoint(folder.path().string());
    EXPECT_EQ(loaded.tag, fmt::format("global_step{}", kSteps));
    EXPECT_EQ(loaded.client_state, "row 180");
    EXPECT_EQ(engine.global_steps(), kSteps);
    const auto losses = train(engine, kSteps, kSteps);
    if (engine.rank() != 0) return;
    resumed = losses;
    EXPECT_EQ(engine.loss_scale(), expected_scale);
  });
  const double tolerance = c.dtype == DType::kFloat32 ? 1e-5 : 2e-2;
  ASSERT_EQ(resumed.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(resumed[i], expected[i], tolerance * expected[i]) << "step " << i;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int saved : {0, 1, 2, 3}) {
    for (const int loaded : {0, 1, 2, 3}) all.push_back({saved, 2, loaded, 2, DType::kFloat32});
  }
  for (const int stage : {1, 3}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
      all.push_back({stage, 3, stage, 2, dtype});
      all.push_back({stage, 1, stage, 4, dtype});
      all.push_back({stage, 4, stage, 1, dtype});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Checkpoint, Resume, ::testing::ValuesIn(cases()), [](const auto& info) {
  const Case& c = info.param;
  return fmt::format("Stage{}World{}ToStage{}World{}{}", c.saved_stage, c.saved_world, c.loaded_stage,
                     c.loaded_world, dtype_name(c.dtype));
});

std::vector<fs::path> files_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

TEST(Checkpoint, ASecondSaveUnderTheSameTagReplacesTheFirst) {
  const TemporaryFolder folder;
  with_engines(2, config_of(3), [&](Engine& engine) {
    engine.save_checkpoint(folder.path().string(), {.tag = "best", .client_state = "first"});
    train(engine, 0, 2);
    engine.save_checkpoint(folder.path().string(), {.tag = "best", .client_state = "second"});
    EXPECT_EQ(engine.load_checkpoint(folder.path().string(), "best").client_state, "second");
    if (engine.rank() == 0) {
      EXPECT_EQ(files_of(folder.path() / "best").size(), 3U) << "two ranks and the index";
    }
  });
}

TEST(Checkpoint, ASaveThatFailsOnOneRankLeavesTheEarlierOne) {
  const TemporaryFolder folder;
  with_engines(2, config_of(2), [&](Engine& engine) {
    train(engine, 0, 1);
    engine.save_checkpoint(folder.path().string(), {.tag = "best", .client_state = "first"});
    // Rank 1 has no such folder and cannot make one.
    const std::string elsewhere = engine.rank() == 0 ? folder.path().string() : "/dev/null/nowhere";
    const Refusal error =
        refusal_of([&] { engine.save_checkpoint(elsewhere, {.tag = "best", .client_state = "second"}); });
    EXPECT_EQ(error.code, engine.rank() == 0 ? ErrorCode::kAborted : ErrorCode::kSystem) << error.message;
    EXPECT_EQ(engine.load_checkpoint(folder.path().string()).client_state, "first");
  });
}

TEST(Checkpoint, DamageIsNamed) {
  const TemporaryFolder folder;
  with_engines(1, config_of(0), [&](Engine& engine) {
    const std::string directory = folder.path().string();
    EXPECT_EQ(refusal_of([&] { engine.load_checkpoint(directory); }).code, ErrorCode::kNotFound);
    engine.save_checkpoint(directory, {.tag = "tag"});
    fs::path data;
    for (const fs::path& file : files_of(folder.path() / "tag"))
      if (file.extension() == ".safetensors") data = file;
    const auto size = fs::file_size(data);
    {
      std::fstream file(data, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(size) / 2);
      file.put('\x55');
      file.put('\xaa');
    }
    Refusal error = refusal_of([&] { engine.load_checkpoint(directory); });
    EXPECT_EQ(error.code, ErrorCode::kProtocol) << error.message;
    EXPECT_THAT(error.message, HasSubstr(data.filename().string()));
    fs::remove(data);
    error = refusal_of([&] { engine.load_checkpoint(directory); });
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_THAT(error.message, HasSubstr(data.filename().string()));
    folder.write("tag/checkpoint.json", "{\"format\": 2, \"par");
    EXPECT_THAT(refusal_of([&] { engine.load_checkpoint(directory); }).message, HasSubstr("checkpoint.json"));
  });
}

TEST(Checkpoint, OfAnotherModelOrOptimizerIsRefused) {
  const TemporaryFolder folder;
  InitializeOptions alone;
  alone.logger = Logger();
  initialize(torch::nn::Linear(3, 2), config_of(0), alone)->save_checkpoint(folder.path().string());
  const auto wider = initialize(torch::nn::Linear(4, 2), config_of(0), alone);
  const Refusal error = refusal_of([&] { wider->load_checkpoint(folder.path().string()); });
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("'weight' is [2,4] here and [2,3] there"));
  Config lion = config_of(0);
  lion.optimizer->kind = OptimizerKind::kLion;
  const fs::path of_lion = folder.path() / "lion";
  initialize(torch::nn::Linear(3, 2), lion, alone)->save_checkpoint(of_lion.string());
  const auto adam = initialize(torch::nn::Linear(3, 2), config_of(0), alone);
  EXPECT_THAT(refusal_of([&] { adam->load_checkpoint(of_lion.string()); }).message,
              HasSubstr("another optimizer"));
}

TEST(Checkpoint, SavingLeavesAModelAloneAsItWas) {
  const TemporaryFolder folder;
  InitializeOptions alone;
  alone.logger = Logger();
  torch::nn::Linear model(3, 2);
  const auto engine = initialize(model, config_of(0), alone);
  engine->save_checkpoint(folder.path().string());
  for (const torch::Tensor& parameter : model->parameters()) EXPECT_FALSE(parameter.grad().defined());
}

// Of as many micro batches as the loading side has; the saving side had two.
TEST(Checkpoint, ResumesAtTheBeginningOfAStepOfAnotherAccumulation) {
  const TemporaryFolder folder;
  Config saved = config_of(1), loaded = config_of(1);
  saved.gradient_accumulation_steps = 2;
  loaded.gradient_accumulation_steps = 4;
  with_engines(1, saved, [&](Engine& engine) {
    train(engine, 0, 6);
    engine.save_checkpoint(folder.path().string());
  });
  with_engines(1, loaded, [&](Engine& engine) {
    engine.load_checkpoint(folder.path().string());
    engine.save_checkpoint(folder.path().string(), {.tag = "again"});
    train(engine, 6, 3);
    EXPECT_EQ(engine.global_steps(), 3);
    train(engine, 9, 1);
    EXPECT_EQ(engine.global_steps(), 4);
  });
}

TEST(Checkpoint, ALossScaleIsRestoredOnlyFromDynamicToDynamic) {
  const TemporaryFolder dynamic, fixed;
  Config static_scale = config_of(1, DType::kFloat16);
  static_scale.loss_scale.loss_scale = 64.0;
  with_engines(1, config_of(1, DType::kFloat16), [&](Engine& engine) {
    train(engine, 0, kSteps);
    ASSERT_NE(engine.loss_scale(), 256.0);
    engine.save_checkpoint(dynamic.path().string());
  });
  with_engines(1, static_scale, [&](Engine& engine) {
    engine.save_checkpoint(fixed.path().string());
    engine.load_checkpoint(dynamic.path().string());
    EXPECT_EQ(engine.loss_scale(), 64.0);
  });
  with_engines(1, config_of(1, DType::kFloat16), [&](Engine& engine) {
    engine.load_checkpoint(fixed.path().string());
    EXPECT_EQ(engine.loss_scale(), 256.0);
  });
}

struct BufferedImpl : torch::nn::Module {
  BufferedImpl(const torch::Tensor& buffer) {
    weight = register_parameter("weight", torch::ones({3}));
    register_buffer("buffer", buffer);
  }
  torch::Tensor forward(const torch::Tensor& input) { return (input * weight).sum(); }
  torch::Tensor weight;
};
TORCH_MODULE(Buffered);

TEST(Checkpoint, KeepsBuffersOfEveryTypeThatFilesHave) {
  for (const torch::Dtype type : {torch::kChar, torch::kShort, torch::kBool, torch::kComplexFloat}) {
    const TemporaryFolder folder;
    const torch::Tensor values = torch::tensor({0, 1, 1}).to(type);
    run_ranks(2, [&](int, const std::shared_ptr<Communicator>& communicator) {
      const Buffered model(values.clone());
      const auto engine = initialize(model, config_of(1), rank_options(communicator));
      engine->save_checkpoint(folder.path().string());
      model->buffers().front().zero_();
      engine->load_checkpoint(folder.path().string());
      EXPECT_TRUE(torch::equal(model->buffers().front(), values)) << type;
    });
  }
}

TEST(Checkpoint, ABufferThatFilesCannotHoldIsNamedOnAllRanks) {
  const TemporaryFolder folder;
  run_ranks(2, [&](int, const std::shared_ptr<Communicator>& communicator) {
    const Buffered model(torch::ones({2}, torch::kComplexDouble));
    const auto engine = initialize(model, config_of(1), rank_options(communicator));
    const Refusal refusal = refusal_of([&] { engine->save_checkpoint(folder.path().string()); });
    EXPECT_EQ(refusal.code, ErrorCode::kUnsupported);
    EXPECT_THAT(refusal.message, HasSubstr("buffer/buffer"));
  });
}

TEST(Checkpoint, RanksThatNameDifferentTagsAreToldSo) {
  const TemporaryFolder folder;
  with_engines(2, config_of(1), [&](Engine& engine) {
    const std::string tag = fmt::format("best_{}", engine.rank());
    const Refusal refusal = refusal_of([&] { engine.save_checkpoint(folder.path().string(), {.tag = tag}); });
    EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refusal.message, HasSubstr(tag));
  });
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Checkpoint, FilesOfTheProgramUnderTheTagStay) {
  const TemporaryFolder folder;
  with_engines(1, config_of(1), [&](Engine& engine) {
    engine.save_checkpoint(folder.path().string(), {.tag = "best"});
    folder.write("best/model.safetensors", "");
    folder.write("best/00000001.rank_7.safetensors.incomplete", "");
    engine.save_checkpoint(folder.path().string(), {.tag = "best"});
  });
  EXPECT_TRUE(fs::exists(folder.path() / "best" / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder.path() / "best" / "00000001.rank_7.safetensors.incomplete"));
}

TEST(Checkpoint, WithinAStepIsRefused) {
  const TemporaryFolder folder;
  Config config = config_of(0);
  config.gradient_accumulation_steps = 2;
  with_engines(1, config, [&](Engine& engine) {
    train(engine, 0, 1);
    EXPECT_THAT(refusal_of([&] { engine.save_checkpoint(folder.path().string()); }).message,
                HasSubstr("within an optimizer step"));
  });
}

}  // namespace
}  // namespace deepscale::testing
