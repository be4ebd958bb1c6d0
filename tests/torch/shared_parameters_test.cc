// One copy of the parameters for all ranks of a host trains to the same bits as one copy for each, and no
// rank changes what another still reads.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/comm/ranks.h"
#include "tests/temporary_folder.h"
#include "tests/torch/patchwork.h"

namespace deepscale::testing {
namespace {

struct Case {
  int stage, world_size;
  DType dtype = DType::kFloat32;
  std::int64_t accumulation = 1;
  double clipping = 0.5;
};

Config config_of(const Case& c, bool shares) {
  Config config;
  config.dtype = c.dtype;
  config.gradient_accumulation_steps = c.accumulation;
  config.gradient_clipping = c.clipping;
  config.optimizer = OptimizerConfig{.lr = 4e-3, .betas = {0.9, 0.98}, .eps = 1e-6, .weight_decay = 0.05};
  config.zero = {.stage = c.stage, .reduce_bucket_size = 400};
  config.deepscale.share_parameters_on_host = shares;
  return config;
}

using RankEngine = std::function<void(Engine&, Patchwork&)>;

void with_engines(const std::string& backend, int world_size, const Config& config, const RankEngine& use) {
  std::vector<Patchwork> models = make_patchworks(world_size);
  run_good_ranks(backend, world_size, [&](Communicator& ranks) {
    at::set_num_threads(1);
    Patchwork& model = models[static_cast<std::size_t>(ranks.rank())];
    const std::shared_ptr<Communicator> communicator(std::shared_ptr<void>(), &ranks);
    const auto engine = initialize(model, config, rank_options(communicator));
    use(*engine, model);
  });
}

void train(Engine& engine, int first, int steps) {
  const std::int64_t micro_steps = engine.config().gradient_accumulation_steps;
  const std::int64_t rows = kGlobalBatch / (engine.world_size() * micro_steps);
  for (int step = first; step < first + steps; ++step) {
    for (std::int64_t k = 0; k < micro_steps; ++k) {
      const TokenBatch batch = global_batch(step).rows((engine.rank() * micro_steps + k) * rows, rows);
      engine.backward(token_loss(engine.forward(batch.tokens), batch.targets));
      engine.step();
    }
  }
}

torch::Tensor values_of(const Patchwork& model) {
  std::vector<torch::Tensor> all;
  for (const torch::Tensor& parameter : trainable_parameters(*model))
    all.push_back(parameter.detach().to(torch::kFloat).reshape({-1}));
  return torch::cat(all);
}

// Of every rank, after `use`.
std::vector<torch::Tensor> trained(int world_size, const Config& config, const RankEngine& use) {
  std::vector<torch::Tensor> values(static_cast<std::size_t>(world_size));
  with_engines("shm", world_size, config, [&](Engine& engine, Patchwork& model) {
    use(engine, model);
    values[static_cast<std::size_t>(engine.rank())] = values_of(model);
  });
  return values;
}

void expect_equal(const std::vector<torch::Tensor>& actual, const std::vector<torch::Tensor>& expected) {
  for (std::size_t rank = 0; rank < expected.size(); ++rank)
    EXPECT_TRUE(torch::equal(actual[rank], expected[rank])) << "rank " << rank;
}

class SharedParameters : public ::testing::TestWithParam<Case> {};

TEST_P(SharedParameters, TrainToTheSameBits) {
  const auto steps = [](Engine& engine, Patchwork&) { train(engine, 0, 10); };
  const int world_size = GetParam().world_size;
  expect_equal(trained(world_size, config_of(GetParam(), true), steps),
               trained(world_size, config_of(GetParam(), false), steps));
}

TEST_P(SharedParameters, GoOnFromACheckpointOfOthers) {
  const TemporaryFolder folder;
  const std::string path = folder.path().string();
  const int world_size = GetParam().world_size;
  const auto expected = trained(world_size, config_of(GetParam(), false), [&](Engine& engine, Patchwork&) {
    train(engine, 0, 3);
    engine.save_checkpoint(path);
    train(engine, 3, 3);
  });
  expect_equal(trained(world_size, config_of(GetParam(), true),
                       [&](Engine& engine, Patchwork&) {
                         train(engine, 100, 2);
                         engine.load_checkpoint(path);
                         train(engine, 3, 3);
                       }),
               expected);
}

INSTANTIATE_TEST_SUITE_P(Cases, SharedParameters,
                         ::testing::Values(Case{1, 2}, Case{1, 3, DType::kFloat32, 3},
                                           Case{1, 4, DType::kBFloat16, 3}, Case{2, 2},
                                           Case{2, 2, DType::kFloat32, 1, 0.0}, Case{2, 3, DType::kBFloat16},
                                           Case{2, 4, DType::kFloat32, 3}),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           const Case& c = info.param;
                           return fmt::format("Stage{}World{}{}Accumulation{}Clipping{}", c.stage,
                                              c.world_size, dtype_name(c.dtype), c.accumulation,
                                              c.clipping > 0.0);
                         });

// Rank 1 lingers between backward() and step(), where nothing but the Engine holds rank 0 up.
TEST(SharedParametersOfRanks, ChangeOnlyWhenEveryRankIsInItsStep) {
  with_engines("shm", 2, config_of({.stage = 2, .world_size = 2, .clipping = 0.0}, true),
               [](Engine& engine, Patchwork& model) {
                 const torch::Tensor before = values_of(model);
                 const TokenBatch batch = global_batch(0).rows(18 * engine.rank(), 18);
                 engine.backward(token_loss(engine.forward(batch.tokens), batch.targets));
                 const auto soon = Deadline::after(std::chrono::milliseconds(100));
                 while (engine.rank() == 1 && !soon.has_passed())
                   ASSERT_TRUE(torch::equal(values_of(model), before));
                 engine.step();
                 EXPECT_FALSE(torch::equal(values_of(model), before));
               });
}

TEST(SharedParametersOfRanks, AreOneCopyWhereTheBackendHasCommonMemory) {
  for (const std::string backend : {"shm", "tcp"}) {
    with_engines(backend, 2, config_of({.stage = 2, .world_size = 2}, true),
                 [&](Engine& engine, Patchwork& model) {
                   torch::Tensor first = trainable_parameters(*model).front().detach();
                   if (engine.rank() == 0) first.fill_(7.0);
                   engine.communicator().barrier().wait();
                   const bool is_written = first.eq(7.0).all().item<bool>();
                   EXPECT_EQ(is_written, engine.rank() == 0 || backend == "shm");
                   engine.communicator().barrier().wait();
                 });
  }
}

TEST(SharedParametersOfRanks, MayBeChangedByTheProgram) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const auto change_and_train = [](Engine& engine, Patchwork& model) {
      train(engine, 0, 2);
      {
        const torch::Tensor parameter = trainable_parameters(*model).front();
        GatheredParameters scope(engine, {parameter}, 1);
        if (engine.rank() == 1) parameter.detach().mul_(0.5);
      }
      train(engine, 2, 2);
    };
    const Case c{.stage = 1, .world_size = 2, .dtype = dtype};
    expect_equal(trained(2, config_of(c, true), change_and_train),
                 trained(2, config_of(c, false), change_and_train));
  }
}

}  // namespace
}  // namespace deepscale::testing
