// Memory at every stage, and stage 3: reading and writing parameters outside the model, changing graphs,
// failures. That training gives the same result is in engine_equality_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "runtime/zero/memory_estimate.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kWidth = 128;
constexpr int kLayers = 12;

Config sharded_config() {
  Config config;
  config.gradient_clipping = 0.0;
  config.optimizer = OptimizerConfig{.lr = 1e-2};
  config.zero.stage = 3;
  config.zero.reduce_bucket_size = kWidth * kWidth;
  config.zero.param_persistence_threshold = kWidth + 1;
  config.zero.prefetch_bucket_size = 0;
  config.zero.max_reuse_distance = 0;
  return config;
}

// Twelve equal layers, biases persistent.
torch::nn::Sequential deep_model() {
  torch::manual_seed(5);
  torch::nn::Sequential model;
  for (int i = 0; i < kLayers; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
  return model;
}

std::vector<torch::nn::Sequential> deep_models(int world_size) {
  std::vector<torch::nn::Sequential> models;
  for (int rank = 0; rank < world_size; ++rank) models.push_back(deep_model());
  return models;
}

torch::Tensor squared_output(Engine& engine) {
  return engine.forward(torch::ones({2, kWidth})).square().mean();
}

constexpr double kWeightBytes = kLayers * kWidth * kWidth * 4.0;
constexpr double kBiasBytes = kLayers * kWidth * 4.0;

TEST(ShardedParameters, ARankHoldsItsShareAndTheLiveWindow) {
  for (const int world_size : {2, 4}) {
    const auto models = deep_models(world_size);
    run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
      const auto engine =
          initialize(models[static_cast<std::size_t>(rank)], sharded_config(), rank_options(communicator));
      // What is persistent is there twice: as a shard, and whole.
      const double share = (kWeightBytes + kBiasBytes) / world_size + kBiasBytes;
      EXPECT_NEAR(static_cast<double>(engine->memory().parameters), share, 0.02 * share);
      const double one_layer = kWidth * kWidth * 4.0;
      for (int step = 0; step < 3; ++step) {
        const torch::Tensor loss = squared_output(*engine);
        EXPECT_LE(static_cast<double>(engine->memory().parameters), 1.02 * share + one_layer);
        engine->backward(loss);
        EXPECT_LE(static_cast<double>(engine->memory().parameters), 1.02 * share + one_layer);
        EXPECT_NEAR(static_cast<double>(engine->memory().gradients), (kWeightBytes + kBiasBytes) / world_size,
                    0.02 * kWeightBytes);
        engine->step();
        EXPECT_LE(static_cast<double>(engine->memory().parameters), 1.02 * share + one_layer);
      }
      EXPECT_NEAR(static_cast<double>(engine->memory().optimizer_state),
                  2 * (kWeightBytes + kBiasBytes) / world_size, 0.02 * kWeightBytes);
    });
  }
}

TEST(Memory, IsThatOfTheEstimateAtEveryStage) {
  for (int stage = 0; stage <= 3; ++stage) {
    for (const int micro_batches : {1, 2}) {
      SCOPED_TRACE(::testing::Message() << "stage " << stage << ", micro batches: " << micro_batches);
      Config config = sharded_config();
      config.zero.stage = stage;
      config.gradient_accumulation_steps = micro_batches;
      const ModelStateBytes estimate =
          estimate_model_states({.parameter_numel = kLayers * kWidth * (kWidth + 1),
                                 .stage = stage,
                                 .world_size = 2,
                                 .gradient_dtype = {},
                                 .accumulates_gradients = micro_batches > 1});
      const auto expect_near = [](std::int64_t measured, std::int64_t estimated) {
        EXPECT_NEAR(static_cast<double>(measured), static_cast<double>(estimated),
                    0.02 * static_cast<double>(estimated));
      };
      const auto models = deep_models(2);
      run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
        const auto engine =
            initialize(models[static_cast<std::size_t>(rank)], config, rank_options(communicator));
        for (int i = 0; i < micro_batches; ++i) {
          engine->backward(squared_output(*engine));
          if (i + 1 == micro_batches) expect_near(engine->memory().gradients, estimate.gradients);
          engine->step();
        }
        expect_near(engine->memory().optimizer_state, estimate.optimizer_state);
        if (stage < 3) expect_near(engine->memory().parameters, estimate.parameters);
      });
    }
  }
}

TEST(ShardedParameters, FrozenParametersAreShardedToo) {
  const auto models = deep_models(2);
  const torch::Tensor expected = deep_model()->forward(torch::ones({2, kWidth})).detach();
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const auto& model = models[static_cast<std::size_t>(rank)];
    const std::vector<torch::Tensor> parameters = model->parameters();
    for (std::size_t i = 0; i + 2 < parameters.size(); ++i)
      torch::Tensor(parameters[i]).set_requires_grad(false);
    const auto engine = initialize(model, sharded_config(), rank_options(communicator));
    EXPECT_EQ(parameters.front().unsafeGetTensorImpl()->unsafe_storage().data(), nullptr);
    EXPECT_TRUE(torch::allclose(engine->forward(torch::ones({2, kWidth})), expected));
    engine->backward(squared_output(*engine));
    EXPECT_EQ(engine->step(), StepResult::kUpdated);
  });
}

TEST(ShardedParameters, ReadingOneGathersAndRawAccessThrows) {
  const auto models = deep_models(2);
  const torch::nn::Sequential reference = deep_model();
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const auto& model = models[static_cast<std::size_t>(rank)];
    const auto engine = initialize(model, sharded_config(), rank_options(communicator));
    const torch::Tensor weight = model->parameters().front();
    EXPECT_EQ(weight.sizes(), torch::IntArrayRef({kWidth, kWidth}));
    EXPECT_ANY_THROW(weight.data_ptr<float>());
    EXPECT_TRUE(torch::equal(weight, reference->parameters().front()));
    EXPECT_TRUE(torch::equal(weight.t().slice(0, 3, 7), reference->parameters().front().t().slice(0, 3, 7)));
  });
}

TEST(ShardedParameters, WhatAnOperatorWritesGoesIntoTheShards) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const auto models = deep_models(2);
    run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
      const auto& model = models[static_cast<std::size_t>(rank)];
      Config config = sharded_config();
      config.dtype = dtype;
      config.optimizer->lr = 0.0;
      const auto engine = initialize(model, config, rank_options(communicator));
      {
        const torch::NoGradGuard no_grad;
        for (torch::Tensor& parameter : model->parameters()) parameter.fill_(0.25);
        model->parameters()[2].view({-1}).mul_(2.0);
      }
      engine->backward(squared_output(*engine).to(torch::kFloat));
      engine->step();  // with a learning rate of zero: parameters come back from the masters
      for (std::size_t i = 0; i < model->parameters().size(); ++i) {
        const torch::Tensor value = model->parameters()[i].to(torch::kFloat);
        EXPECT_TRUE(torch::all(value == (i == 2 ? 0.5 : 0.25)).item<bool>()) << i;
      }
    });
  }
}

// Uses some of its layers, in an order that the input's length decides.
struct ChangingImpl : torch::nn::Module {
  ChangingImpl() {
    torch::manual_seed(9);
    for (int i = 0; i < kLayers; ++i)
      layers.push_back(register_module("layer" + std::to_string(i), torch::nn::Linear(kWidth, kWidth)));
  }
  torch::Tensor forward(torch::Tensor input) {
    const std::int64_t first = input.size(0);
    for (int i = 0; i < 5; ++i) {
      input = torch::tanh(layers[static_cast<std::size_t>((first + i * first) % kLayers)](input));
    }
    return input;
  }
  std::vector<torch::nn::Linear> layers;
};
TORCH_MODULE(Changing);

std::vector<double> losses_of_changing_graphs(const Changing& model, const Config& config,
                                              const InitializeOptions& options) {
  const auto engine = initialize(model, config, options);
  std::vector<double> losses;
  for (const std::int64_t rows : {1, 2, 1, 5, 3, 2, 7, 1, 4, 4, 3}) {
    {
      const torch::NoGradGuard no_grad;  // an evaluation between two steps
      engine->forward(torch::ones({rows + 1, kWidth}));
    }
    const torch::Tensor loss = engine->forward(torch::ones({rows, kWidth})).square().mean();
    losses.push_back(loss.item<double>());
    engine->backward(loss);
    engine->step();
  }
  return losses;
}

TEST(ShardedParameters, AGraphMayChangeFromStepToStep) {
  InitializeOptions alone;
  alone.logger = Logger();
  const std::vector<double> expected = losses_of_changing_graphs(Changing(), sharded_config(), alone);
  Config config = sharded_config();
  config.zero.prefetch_bucket_size = 3 * kWidth * kWidth;
  config.zero.max_reuse_distance = 4 * kWidth * kWidth;
  config.zero.max_live_parameters = 5 * kWidth * kWidth;
  const std::vector<Changing> models = {Changing(), Changing()};
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const std::vector<double> losses =
        losses_of_changing_graphs(models[static_cast<std::size_t>(rank)], config, rank_options(communicator));
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-5) << i;
  });
}

TEST(ShardedParameters, TwoModelsInOneProcess) {
  const auto first = deep_models(2);
  const auto second = deep_models(2);
  const torch::Tensor expected =
      deep_model()->forward(deep_model()->forward(torch::ones({2, kWidth}))).detach();
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const auto index = static_cast<std::size_t>(rank);
    const auto inner = initialize(first[index], sharded_config(), rank_options(communicator));
    const auto outer = initialize(second[index], sharded_config(), rank_options(communicator));
    const torch::Tensor output = outer->forward(inner->forward(torch::ones({2, kWidth})));
    EXPECT_TRUE(torch::allclose(output, expected));
  });
}

TEST(ShardedParameters, AFailedGatherIsAnErrorOfForward) {
  const auto models = deep_models(2);
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const auto engine =
        initialize(models[static_cast<std::size_t>(rank)], sharded_config(), rank_options(communicator));
    if (rank == 1) return communicator->abort("rank 1 has had enough");
    try {
      squared_output(*engine);
      FAIL() << "forward went on without parameters";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("had enough"));
    }
  });
}

TEST(ShardedParameters, AModelOutlivesItsEngineWithoutData) {
  const auto models = deep_models(2);
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const auto& model = models[static_cast<std::size_t>(rank)];
    initialize(model, sharded_config(), rank_options(communicator)).reset();
    EXPECT_ANY_THROW(model->parameters().front().data_ptr<float>());
  });
}

}  // namespace
}  // namespace deepscale::testing
