// A disk that fails under offloaded state: the call that needs it throws on the rank of the disk and names
// the file, and the other ranks hear of it at once, also where nobody's process ends.
#include <fcntl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <latch>

#include "runtime/engine/zero_init.h"
#include "runtime/offload/paged_file.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/offload_descriptor.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::AnyOf;
using ::testing::Eq;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr std::int64_t kWidth = 64;
constexpr int kLayers = 8;
constexpr std::int64_t kLayerNumel = kWidth * kWidth;
constexpr auto kLimit = std::chrono::seconds(20);

torch::nn::Sequential make_tower(int frozen_layers) {
  torch::manual_seed(5);
  torch::nn::Sequential model;
  for (int i = 0; i < kLayers; ++i) {
    const torch::nn::Linear layer(kWidth, kWidth);
    for (torch::Tensor& parameter : layer->parameters()) parameter.set_requires_grad(i >= frozen_layers);
    model->push_back(layer);
  }
  return model;
}

// --- how a disk fails

enum class Fault {
  kCut,      // there is nothing to read
  kHalfCut,  // from the middle on
  kFull,     // nothing can be written
};

void inflict(Fault fault, const fs::path& folder, const std::string& name) {
  const int descriptor = descriptor_of(folder, name);
  if (fault == Fault::kFull) {
    const int full = ::open("/dev/full", O_RDWR | O_CLOEXEC);
    ASSERT_EQ(::dup2(full, descriptor), descriptor);
    ::close(full);
    return;
  }
  const off_t end = fault == Fault::kCut ? 0 : ::lseek(descriptor, 0, SEEK_END) / 2 / 4096 * 4096;
  ASSERT_EQ(::ftruncate(descriptor, end), 0);
}

// --- when it fails

using Action = std::function<void()>;

// Does what comes before, and returns what the disk is to fail in.
using Moment = std::function<Action(Engine&, torch::nn::Sequential&)>;

torch::Tensor loss_of(Engine& engine) {
  const torch::Tensor input = torch::full({2, kWidth}, 0.1 * (1 + engine.rank()));
  return engine.forward(input).to(torch::kFloat).square().mean();
}

void train_step(Engine& engine) {
  engine.backward(loss_of(engine));
  engine.step();
}

Action forward(Engine& engine, torch::nn::Sequential&) {
  return [&] { loss_of(engine); };
}
Action evaluation(Engine& engine, torch::nn::Sequential&) {
  return [&] {
    const torch::NoGradGuard no_grad;
    loss_of(engine);
  };
}
Action backward(Engine& engine, torch::nn::Sequential&) {
  return [&, loss = loss_of(engine)] { engine.backward(loss); };
}
Action step(Engine& engine, torch::nn::Sequential&) {
  engine.backward(loss_of(engine));
  return [&] { engine.step(); };
}
// What is written behind is missed when something is read.
Action step_and_forward(Engine& engine, torch::nn::Sequential&) {
  engine.backward(loss_of(engine));
  return [&] {
    engine.step();
    loss_of(engine);
  };
}
Action gathering(Engine& engine, torch::nn::Sequential& model) {
  return [&] { GatheredParameters(engine, model->parameters()).finish(); };
}
Action changing(Engine& engine, torch::nn::Sequential& model) {
  return [&] {
    for (int i = 0; i < 2; ++i) {  // written behind
      GatheredParameters scope(engine, model->parameters(), /*modifier_rank=*/0);
      scope.finish();
    }
  };
}

struct Case {
  const char* name;
  const char* file;
  Fault fault;
  Moment moment;
  int stage = 3;
  DType dtype = DType::kFloat32;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"ParametersInForward", "parameters", Fault::kCut, forward},
      {"ParametersAheadOfForward", "parameters", Fault::kHalfCut, forward},
      {"ParametersInEvaluation", "parameters", Fault::kCut, evaluation},
      {"ParametersInBackward", "parameters", Fault::kCut, backward},
      {"ParametersAheadOfBackward", "parameters", Fault::kHalfCut, backward},
      {"ParametersWrittenByStep", "parameters", Fault::kFull, step_and_forward},
      {"ParametersGathered", "parameters", Fault::kCut, gathering},
      {"ParametersChanged", "parameters", Fault::kFull, changing},
      {"OptimizerReadAtStage3", "optimizer", Fault::kCut, step},
      {"OptimizerReadAtStage2", "optimizer", Fault::kCut, step, 2},
      {"OptimizerReadAtStage1", "optimizer", Fault::kCut, step, 1},
      {"OptimizerReadAtStage1InBf16", "optimizer", Fault::kHalfCut, step, 1, DType::kBFloat16},
      {"OptimizerWrittenAtStage3", "optimizer", Fault::kFull, step},
      {"OptimizerWrittenAtStage2", "optimizer", Fault::kFull, step, 2, DType::kBFloat16},
      {"OptimizerWrittenAtStage1", "optimizer", Fault::kFull, step, 1},
      {"OptimizerChanged", "optimizer", Fault::kFull, changing},
  };
  return all;
}

Config config_of(int stage, DType dtype, const TemporaryFolder& folder) {
  Config config;
  config.dtype = dtype;
  config.optimizer = OptimizerConfig{.lr = 4e-3};
  config.zero = {.stage = stage,
                 .reduce_bucket_size = kLayerNumel,
                 .max_live_parameters = 2 * kLayerNumel,
                 .prefetch_bucket_size = kLayerNumel,
                 .param_persistence_threshold = kWidth + 1,
                 .sub_group_size = 2000};
  config.zero.offload_param = {.device = OffloadDevice::kNvme, .nvme_path = folder.path().string()};
  config.zero.offload_optimizer = config.zero.offload_param;
  config.zero.gather_16bit_weights_on_model_save = true;
  config.aio = {.block_size = 4096, .queue_depth = 2};
  return config;
}

using UseEngine = std::function<Refusal(Engine&, torch::nn::Sequential&)>;

// What `use` ended with on each rank. No rank goes before all have ended: none may depend on that.
std::vector<Refusal> ends_of(int world_size, const Config& config, const UseEngine& use,
                             int frozen_layers = 0) {
  std::vector<torch::nn::Sequential> models;
  for (int rank = 0; rank < world_size; ++rank) models.push_back(make_tower(frozen_layers));
  std::vector<Refusal> ends(static_cast<std::size_t>(world_size));
  std::latch all_have_ended(world_size);
  run_ranks(
      world_size,
      [&](int rank, const std::shared_ptr<Communicator>& communicator) {
        const auto index = static_cast<std::size_t>(rank);
        at::set_num_threads(1);
        const auto engine = initialize(models[index], config, rank_options(communicator));
        ends[index] = use(*engine, models[index]);
        all_have_ended.arrive_and_wait();
      },
      kLimit);
  return ends;
}

void expect_names(const Refusal& refusal, const std::string& file) {
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, HasSubstr(file));
  EXPECT_THAT(refusal.message, AnyOf(HasSubstr("Input/output error"), HasSubstr("No space left on device")));
  EXPECT_THAT(refusal.message, HasSubstr("last checkpoint"));
}

// In the midst of a message there is no way to say why to the other side of a socket.
void expect_heard_of(const Refusal& refusal, const std::string& file) {
  EXPECT_THAT(refusal.code, AnyOf(Eq(ErrorCode::kPeerLost), Eq(ErrorCode::kAborted))) << refusal.message;
  EXPECT_THAT(refusal.message, AnyOf(HasSubstr(file), HasSubstr("what ended it stands in its own output")));
}

class FileFault : public ::testing::TestWithParam<Case> {};

TEST_P(FileFault, EndsAllRanksWhereItIsMet) {
  const Case& c = GetParam();
  for (const int world_size : {1, 2, 3}) {
    SCOPED_TRACE(fmt::format("world of {}", world_size));
    const TemporaryFolder folder;
    const int broken_rank = world_size - 1;
    const std::string file = fmt::format("deepscale_{}.rank_{}.", c.file, broken_rank);
    const std::vector<Refusal> ends = ends_of(world_size, config_of(c.stage, c.dtype, folder),
                                              [&](Engine& engine, torch::nn::Sequential& model) {
                                                train_step(engine);
                                                train_step(engine);
                                                const Action action = c.moment(engine, model);
                                                if (engine.rank() == broken_rank)
                                                  inflict(c.fault, folder.path(), file);
                                                return refusal_of(action);
                                              });
    expect_names(ends.back(), (folder.path() / file).string());
    for (int rank = 0; rank < broken_rank; ++rank) {
      SCOPED_TRACE(fmt::format("rank {}", rank));
      expect_heard_of(ends[static_cast<std::size_t>(rank)], file);
    }
    EXPECT_TRUE(fs::is_empty(folder.path())) << "a file was left behind";
  }
}

TEST_P(FileFault, IsFinal) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  const std::string file = fmt::format("deepscale_{}.rank_0.", c.file);
  ends_of(1, config_of(c.stage, c.dtype, folder), [&](Engine& engine, torch::nn::Sequential& model) {
    train_step(engine);
    const Action action = c.moment(engine, model);
    inflict(c.fault, folder.path(), file);
    const Refusal refusal = refusal_of(action);
    const std::string checkpoint = (folder.path() / "checkpoint").string();
    expect_names(refusal_of([&] { engine.save_checkpoint(checkpoint); }), file);
    expect_names(refusal_of([&] { train_step(engine); }), file);
    EXPECT_FALSE(fs::exists(checkpoint)) << "of values that are undefined";
    return refusal;
  });
}

INSTANTIATE_TEST_SUITE_P(Engine, FileFault, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

// --- checkpoints

struct SaveCase {
  const char* file;
  int frozen_layers;
  bool in_background;
};

class FileFaultInASave : public ::testing::TestWithParam<SaveCase> {};

TEST_P(FileFaultInASave, LeavesTheCheckpointBefore) {
  const SaveCase& c = GetParam();
  const TemporaryFolder folder, checkpoints;
  const std::string directory = checkpoints.path().string();
  const Config config = config_of(3, DType::kBFloat16, folder);
  const std::string file = fmt::format("deepscale_{}.rank_1.", c.file);
  const std::vector<Refusal> ends = ends_of(
      2, config,
      [&](Engine& engine, torch::nn::Sequential&) {
        // Frozen parameters are not read ahead: no operator has used them.
        if (c.frozen_layers == 0) train_step(engine);
        engine.save_checkpoint(directory, {.tag = "first"});
        if (engine.rank() == 1) inflict(Fault::kCut, folder.path(), file);
        return refusal_of([&] {
          engine.save_checkpoint(directory, {.tag = "second", .in_background = c.in_background});
          engine.wait_for_checkpoint();
        });
      },
      c.frozen_layers);
  expect_names(ends[1], file);
  EXPECT_EQ(ends[0].code, ErrorCode::kAborted);
  EXPECT_THAT(ends[0].message, HasSubstr("saving a checkpoint failed on rank 1: "));
  EXPECT_THAT(ends[0].message, HasSubstr(file));
  ends_of(
      2, config,
      [&](Engine& engine, torch::nn::Sequential&) {
        EXPECT_EQ(engine.load_checkpoint(directory).tag, "first");
        train_step(engine);
        return Refusal{};
      },
      c.frozen_layers);
}

INSTANTIATE_TEST_SUITE_P(Engine, FileFaultInASave,
                         ::testing::Values(SaveCase{"optimizer", 0, false}, SaveCase{"optimizer", 0, true},
                                           SaveCase{"parameters", kLayers / 2, false},
                                           SaveCase{"parameters", kLayers / 2, true}),
                         [](const auto& info) {
                           return fmt::format("Of{}{}",
                                              info.param.frozen_layers == 0 ? "Masters" : "FrozenParameters",
                                              info.param.in_background ? "InTheBackground" : "");
                         });

TEST(FileFaultInACheckpoint, ThatIsLoadedEndsAllRanks) {
  for (const char* content : {"parameters", "optimizer"}) {
    const TemporaryFolder folder, checkpoints;
    const std::string file = fmt::format("deepscale_{}.rank_1.", content);
    const std::vector<Refusal> ends =
        ends_of(2, config_of(3, DType::kBFloat16, folder), [&](Engine& engine, torch::nn::Sequential&) {
          train_step(engine);
          engine.save_checkpoint(checkpoints.path().string());
          if (engine.rank() == 1) inflict(Fault::kFull, folder.path(), file);
          return refusal_of([&] {
            engine.load_checkpoint(checkpoints.path().string());
            loss_of(engine);
          });
        });
    expect_names(ends[1], file);
    EXPECT_EQ(ends[0].code, ErrorCode::kAborted) << ends[0].message;
  }
}

TEST(FileFaultInASavedModel, EndsAllRanks) {
  const TemporaryFolder folder, models;
  const std::string file = "deepscale_parameters.rank_1.";
  const std::vector<Refusal> ends =
      ends_of(2, config_of(3, DType::kBFloat16, folder), [&](Engine& engine, torch::nn::Sequential&) {
        if (engine.rank() == 1) inflict(Fault::kCut, folder.path(), file);
        return refusal_of([&] { engine.save_16bit_model((models.path() / "model").string()); });
      });
  expect_names(ends[1], file);
  expect_heard_of(ends[0], file);
  EXPECT_FALSE(fs::exists(models.path() / "model" / "model.safetensors"));
}

// --- limits

// The system would end the process by SIGXFSZ.
TEST(FileLimit, IsAskedForBeforeAFileIsMade) {
  const TemporaryFolder folder;
  PagedFile file(BlockStoreOptions{.folder = folder.path()});
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Refusal refusal = refusal_of([&] { file.reserve(2 << 20); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(refusal.code, ErrorCode::kSystem);
  EXPECT_THAT(refusal.message, HasSubstr("File too large"));
  EXPECT_THAT(refusal.message, HasSubstr("ulimit -f"));
  EXPECT_NO_THROW(file.reserve(2 << 20));
}

// --- zero::Init

struct MadeInAScope : torch::nn::Module {
  explicit MadeInAScope(const Action& fail) {
    for (int i = 0; i < kLayers; ++i)
      layers.push_back(register_module(fmt::format("layer{}", i), torch::nn::Linear(kWidth, kWidth)));
    layers.front()->weight.sum();  // waits until the last weight is in the file
    fail();
    const torch::NoGradGuard no_grad;
    for (auto& layer : layers) layer->weight.mul_(0.5);
  }
  torch::Tensor forward(torch::Tensor hidden) {
    for (auto& layer : layers) hidden = layer->forward(hidden);
    return hidden;
  }
  std::vector<torch::nn::Linear> layers;
};

TEST(FileFaultInZeroInit, IsThrownByTheEngineOnAllRanks) {
  for (const Fault fault : {Fault::kCut, Fault::kFull}) {
    for (const int world_size : {1, 2}) {
      SCOPED_TRACE(fmt::format("fault {}, world of {}", static_cast<int>(fault), world_size));
      const TemporaryFolder folder;
      const Config config = config_of(3, DType::kFloat32, folder);
      const std::string file = fmt::format("deepscale_init.rank_{}.", world_size - 1);
      std::vector<Refusal> ends(static_cast<std::size_t>(world_size));
      std::latch all_have_ended(world_size);
      run_ranks(
          world_size,
          [&](int rank, const std::shared_ptr<Communicator>& communicator) {
            at::set_num_threads(1);
            const zero::Init scope(world_size == 1 ? nullptr : communicator, zero::InitOptions::of(config));
            const auto model = std::make_shared<MadeInAScope>([&] {
              if (rank == world_size - 1) inflict(fault, folder.path(), file);
            });
            EXPECT_ANY_THROW(scope.rethrow_failure());
            ends[static_cast<std::size_t>(rank)] =
                refusal_of([&] { initialize(model, config, rank_options(communicator)); });
            all_have_ended.arrive_and_wait();
          },
          kLimit);
      expect_names(ends.back(), file);
      if (world_size > 1) expect_heard_of(ends.front(), file);
      EXPECT_TRUE(fs::is_empty(folder.path())) << "a file was left behind";
    }
  }
}

}  // namespace
}  // namespace deepscale::testing
