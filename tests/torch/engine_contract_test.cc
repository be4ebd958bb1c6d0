// What engine.h promises besides equal training: a world of one is plain LibTorch, every rank starts from
// rank 0's values, memory follows the ZeRO formulas, forward() places its inputs, and misuse is one clear
// Error.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/variable.h>

#include <mutex>

#include "comm/base/error.h"
#include "runtime/offload/optimizer_kernels.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

Config adamw_config(int stage = 0) {
  Config config;
  config.gradient_clipping = 0.0;
  config.optimizer = OptimizerConfig{.lr = 2e-3, .betas = {0.9, 0.95}, .weight_decay = 0.1};
  config.zero = {.stage = stage, .reduce_bucket_size = 1000};
  return config;
}

InitializeOptions alone() {
  InitializeOptions options;
  options.logger = Logger();
  return options;
}

bool has_hook(const torch::Tensor& parameter) {
  return parameter.requires_grad() && torch::autograd::impl::post_acc_grad_hooks(parameter) != nullptr;
}

torch::Tensor loss_of(const std::unique_ptr<Engine>& engine, int step = 0) {
  const TokenBatch batch = global_batch(step);
  return token_loss(engine->forward(batch.tokens), batch.targets);
}

// --- a world of one
// ------------------------------------------------------------------------------------------------

TEST(WorldOfOne, LeavesTheModelAsItWas) {
  const Patchwork model = make_patchwork();
  std::vector<void*> addresses;
  for (const torch::Tensor& parameter : model->parameters()) addresses.push_back(parameter.data_ptr());
  const auto engine = initialize(model, adamw_config(2), alone());
  for (int step = 0; step < 3; ++step) {
    engine->backward(loss_of(engine, step));
    std::size_t index = 0;
    for (const auto& entry : model->named_parameters()) {
      EXPECT_EQ(entry.value().data_ptr(), addresses[index++]) << entry.key();
      EXPECT_FALSE(has_hook(entry.value())) << entry.key();
      const bool gets_gradient = entry.key() != "frozen_scale" && entry.key().rfind("unused", 0) != 0;
      EXPECT_EQ(entry.value().grad().defined(), gets_gradient) << entry.key();
    }
    EXPECT_EQ(engine->step(), StepResult::kUpdated);
  }
  EXPECT_STREQ(engine->communicator().backend(), "single");
}

TEST(WorldOfOne, GivesTheBitsOfABareLoopWithTheSameKernel) {
  at::set_num_threads(1);
  Patchwork bare = make_patchwork();
  std::vector<torch::Tensor> parameters = trainable_parameters(*bare);
  std::vector<torch::Tensor> first, second;
  for (const torch::Tensor& parameter : parameters) {
    first.push_back(torch::zeros_like(parameter));
    second.push_back(torch::zeros_like(parameter));
  }
  const Patchwork model = make_patchwork();
  const auto engine = initialize(model, adamw_config(), alone());
  for (int step = 0; step < 10; ++step) {
    const TokenBatch batch = global_batch(step);
    const torch::Tensor bare_loss = token_loss(bare(batch.tokens), batch.targets);
    bare_loss.backward();
    {
      torch::NoGradGuard no_grad;
      const UpdateRule rule = make_update_rule(
          *adamw_config().optimizer, {.number = step + 1, .learning_rate = 2e-3, .betas = {0.9, 0.95}});
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const torch::Tensor gradient =
            parameters[i].grad().defined() ? parameters[i].grad() : torch::zeros_like(parameters[i]);
        update(rule, {.master = parameters[i].data_ptr<float>(),
                      .gradient = gradient.data_ptr(),
                      .first_moment = first[i].data_ptr<float>(),
                      .second_moment = second[i].data_ptr<float>(),
                      .numel = gradient.numel()});
      }
      bare->zero_grad();
    }
    const torch::Tensor loss = loss_of(engine, step);
    engine->backward(loss);
    engine->step();
    EXPECT_EQ(loss.item<float>(), bare_loss.item<float>()) << "step " << step;
  }
  const std::vector<torch::Tensor> ours = trainable_parameters(*model);
  for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(torch::equal(ours[i], parameters[i])) << i;
}

// --- construction
// --------------------------------------------------------------------------------------------------

// Buffers of types that no reduction knows, parameters of odd shapes, strides and types.
struct OddTensorsImpl : torch::nn::Module {
  explicit OddTensorsImpl(int seed) {
    const auto filled = [&](torch::IntArrayRef shape, torch::Dtype dtype) {
      return (torch::arange(1, c10::multiply_integers(shape) + 1, torch::kDouble).view(shape) * (seed + 1) *
              0.01)
          .to(dtype);
    };
    register_parameter("scalar", filled({}, torch::kFloat));
    register_parameter("empty", torch::empty({0, 3}));
    register_parameter("transposed", filled({5, 3}, torch::kFloat).t());
    register_parameter("double", filled({7}, torch::kDouble));
    register_parameter("frozen", filled({3}, torch::kFloat), /*requires_grad=*/false);
    register_buffer("strided", filled({4, 2}, torch::kFloat).t());
    register_buffer("int8", torch::full({3}, seed, torch::kChar));
    register_buffer("int16", torch::full({}, seed, torch::kShort));
    register_buffer("expanded", torch::full({3, 1}, seed, torch::kLong).expand({3, 4}));
    register_buffer("bool", torch::full({2}, seed == 0, torch::kBool));
    register_buffer("complex", torch::full({2}, c10::complex<float>(1.0f, static_cast<float>(seed)),
                                           torch::kComplexFloat));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    torch::Tensor sum = x.sum();
    for (const torch::Tensor& parameter : parameters()) sum = sum + parameter.sin().sum();
    return sum;
  }
};
TORCH_MODULE(OddTensors);

TEST(Construction, EveryRankGetsRankZerosTensors) {
  for (const int stage : {0, 1, 2}) {
    for (const int world_size : {1, 3}) {
      run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
        const OddTensors model(rank);
        const OddTensors expected(0);
        const auto engine = initialize(model, adamw_config(stage), rank_options(communicator));
        for (const auto& entry : expected->named_parameters()) {
          const torch::Tensor& ours = model->named_parameters()[entry.key()];
          EXPECT_EQ(ours.scalar_type(), torch::kFloat) << entry.key();
          EXPECT_TRUE(torch::equal(ours, entry.value().to(torch::kFloat))) << entry.key();
        }
        for (const auto& entry : expected->named_buffers()) {
          const torch::Tensor& ours = model->named_buffers()[entry.key()];
          EXPECT_EQ(ours.scalar_type(), entry.value().scalar_type()) << entry.key();
          EXPECT_TRUE(torch::equal(ours, entry.value())) << entry.key();
        }
      });
    }
  }
}

TEST(Construction, OddTensorsTrainTheSameOnEveryWorld) {
  Config config = adamw_config(1);
  config.optimizer = OptimizerConfig{.kind = OptimizerKind::kSgd, .lr = 0.1};
  std::vector<torch::Tensor> expected;
  for (const torch::Tensor& parameter : OddTensors(0)->parameters()) {
    torch::Tensor values = parameter.detach().to(torch::kFloat);
    for (int step = 0; step < 3 && parameter.requires_grad(); ++step) values = values - 0.1 * values.cos();
    expected.push_back(values);
  }
  for (const int stage : {0, 1, 2}) {
    for (const int world_size : {1, 2, 3}) {
      config.zero.stage = stage;
      run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
        const OddTensors model(rank);
        const auto engine = initialize(model, config, rank_options(communicator));
        for (int step = 0; step < 3; ++step) {
          engine->backward(engine->forward(torch::ones({2})));
          engine->step();
        }
        const std::vector<torch::Tensor> ours = model->parameters();
        for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(torch::allclose(ours[i], expected[i])) << i;
      });
    }
  }
}

TEST(Construction, HooksGoWithTheEngine) {
  run_ranks(2, [](int, const std::shared_ptr<Communicator>& communicator) {
    OddTensors model(0);
    auto engine = initialize(model, adamw_config(1), rank_options(communicator));
    EXPECT_TRUE(has_hook(model->parameters().front()));
    engine.reset();
    EXPECT_FALSE(has_hook(model->parameters().front()));
    model(torch::ones({2})).backward();
    EXPECT_TRUE(model->parameters().front().grad().defined());
  });
}

// --- memory
// --------------------------------------------------------------------------------------------------------

// 2.1 million parameters in tensors of odd sizes.
torch::nn::Sequential large_model() {
  namespace nn = torch::nn;
  return nn::Sequential(nn::Linear(1021, 1013), nn::ReLU(), nn::Linear(1013, 1019),
                        nn::LayerNorm(nn::LayerNormOptions({1019})));
}

struct MemoryCase {
  int stage;
  int world_size;
  DType dtype;
  std::int64_t accumulation = 1;
};

class Memory : public ::testing::TestWithParam<MemoryCase> {};

// "ZeRO", section 5: optimizer state is K bytes a parameter, gradients and parameters are the size of their
// dtype; stage 1 divides the state by the world size, stage 2 the gradients too, and stage 1 where a step has
// one micro batch.
TEST_P(Memory, FollowsTheFormula) {
  const auto [stage, world_size, dtype, accumulation] = GetParam();
  Config config = adamw_config(stage);
  config.gradient_accumulation_steps = accumulation;
  config.dtype = dtype;
  const bool half = dtype != DType::kFloat32;
  const bool divides_gradients = stage >= 2 || (stage == 1 && accumulation == 1);
  run_ranks(world_size, [&, stage = stage, world_size = world_size](
                            int, const std::shared_ptr<Communicator>& communicator) {
    const torch::nn::Sequential model = large_model();
    const auto engine = initialize(model, config, rank_options(communicator));
    engine->backward(engine->forward(torch::ones({1, 1021})).to(torch::kFloat).square().mean());
    const MemoryReport report = engine->memory();
    engine->step();
    if (divides_gradients && accumulation == 1) {
      EXPECT_EQ(engine->memory().gradients, 0);
    }

    double numel = 0.0;
    for (const torch::Tensor& parameter : model->parameters())
      numel += static_cast<double>(parameter.numel());
    ASSERT_GT(numel, 2e6);
    const double state = numel * (half ? 12 : 8) / (stage >= 1 ? world_size : 1);
    const double gradients = numel * (half ? 2 : 4) / (divides_gradients ? world_size : 1);
    const double parameters = numel * (half ? 2 : 4);
    EXPECT_NEAR(static_cast<double>(report.optimizer_state), state, 0.02 * state);
    EXPECT_NEAR(static_cast<double>(report.gradients), gradients, 0.02 * gradients);
    EXPECT_NEAR(static_cast<double>(report.parameters), parameters, 0.02 * parameters);
  });
}

std::vector<MemoryCase> memory_cases() {
  std::vector<MemoryCase> cases;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    cases.push_back({0, 1, dtype});
    for (const int stage : {0, 1, 2}) {
      for (const int world_size : {2, 4}) {
        for (const std::int64_t accumulation : {1, 2})
          cases.push_back({stage, world_size, dtype, accumulation});
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Engine, Memory, ::testing::ValuesIn(memory_cases()),
                         [](const ::testing::TestParamInfo<MemoryCase>& info) {
                           return fmt::format("Stage{}World{}{}Accumulation{}", info.param.stage,
                                              info.param.world_size,
                                              info.param.dtype == DType::kFloat32 ? "Fp32" : "Bf16",
                                              info.param.accumulation);
                         });

// --- forward
// -------------------------------------------------------------------------------------------------------

struct ManyArgumentsImpl : torch::nn::Module {
  ManyArgumentsImpl() { weight = register_parameter("weight", torch::ones({3})); }
  std::tuple<torch::Tensor, torch::Tensor> forward(torch::Tensor x, torch::Tensor index,
                                                   torch::Tensor missing, std::int64_t shift, bool negate,
                                                   double factor) {
    EXPECT_FALSE(missing.defined());
    EXPECT_EQ(x.scalar_type(), weight.scalar_type());
    EXPECT_EQ(index.scalar_type(), torch::kLong);
    const torch::Tensor picked = (x * weight).index_select(0, index) * factor;
    return {negate ? -picked : picked, index + shift};
  }
  torch::Tensor weight;
};
TORCH_MODULE(ManyArguments);

TEST(Forward, PlacesTensorsAndPassesTheRest) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    Config config = adamw_config();
    config.dtype = dtype;
    const auto engine = initialize(ManyArguments(), config, alone());
    const torch::Tensor x = torch::tensor({1.0, 2.0, 3.0}, torch::kDouble);
    const auto [values, shifted] = engine->forward<std::tuple<torch::Tensor, torch::Tensor>>(
        x, torch::tensor({2, 0}, torch::kLong), torch::Tensor(), std::int64_t{5}, true, 2.0);
    EXPECT_EQ(values.scalar_type(), engine->dtype());
    EXPECT_TRUE(torch::equal(values.to(torch::kFloat), torch::tensor({-6.0f, -2.0f})));
    EXPECT_TRUE(torch::equal(shifted, torch::tensor({7, 5}, torch::kLong)));
    EXPECT_EQ(x.scalar_type(), torch::kDouble);
  }
}

// --- the norm
// ------------------------------------------------------------------------------------------------------

TEST(GradientNorm, IsThatOfTheGlobalBatch) {
  const Patchwork bare = make_patchwork();
  const TokenBatch batch = global_batch(0);
  token_loss(Patchwork(bare)(batch.tokens), batch.targets).backward();
  double squared = 0.0;
  for (const torch::Tensor& parameter : trainable_parameters(*bare)) {
    if (parameter.grad().defined()) squared += parameter.grad().square().sum().item<double>();
  }
  for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
    for (const int world_size : {1, 2, 3}) {
      Config config = adamw_config(world_size == 2 ? 1 : 2);
      config.dtype = dtype;
      config.gradient_clipping = 100.0;
      config.loss_scale.initial_scale_power = 7;
      const std::vector<Patchwork> models = make_patchworks(world_size);
      run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
        const auto engine =
            initialize(models[static_cast<std::size_t>(rank)], config, rank_options(communicator));
        EXPECT_FALSE(engine->global_gradient_norm().has_value());
        const TokenBatch rows = batch.rows(rank * kGlobalBatch / world_size, kGlobalBatch / world_size);
        engine->backward(token_loss(engine->forward(rows.tokens), rows.targets));
        engine->step();
        const double tolerance = dtype == DType::kFloat32 ? 1e-5 : 1e-2;
        EXPECT_NEAR(engine->global_gradient_norm().value(), std::sqrt(squared),
                    tolerance * std::sqrt(squared));
      });
    }
  }
}

// --- misuse
// --------------------------------------------------------------------------------------------------------

template <typename Function>
void expect_misuse(Function&& function, const std::string& message,
                   ErrorCode code = ErrorCode::kInvalidArgument) {
  try {
    function();
    ADD_FAILURE() << "no Error; expected: " << message;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(message));
    EXPECT_EQ(error.code(), code);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "a stack trace: " << error.what();
  }
}

TEST(Misuse, OfBackwardAndStep) {
  const auto engine = initialize(make_patchwork(), adamw_config(), alone());
  expect_misuse([&] { engine->step(); }, "without a backward");
  const torch::Tensor logits = engine->forward(global_batch(0).tokens);
  expect_misuse([&] { engine->backward(logits); }, "one element");
  expect_misuse([&] { engine->backward(torch::Tensor()); }, "one element");
  expect_misuse([&] { engine->backward(logits.mean().detach()); },
                "does not depend on a trainable parameter");
  engine->backward(logits.mean());
  expect_misuse([&] { engine->backward(loss_of(engine)); }, "twice");
  EXPECT_EQ(engine->step(), StepResult::kUpdated) << "misuse leaves the engine as it was";
  expect_misuse([&] { engine->step(); }, "without a backward");
  EXPECT_EQ(engine->global_steps(), 1);
}

TEST(Misuse, OfTheConfig) {
  Config config = adamw_config();
  config.optimizer.reset();
  expect_misuse([&] { initialize(make_patchwork(), config, alone()); }, "no optimizer");
  InitializeOptions with_optimizer = alone();
  with_optimizer.optimizer = OptimizerConfig{};
  EXPECT_NO_THROW(initialize(make_patchwork(), config, with_optimizer));

  InitializeOptions lonely = alone();
  lonely.layout.world_size = 2;
  expect_misuse([&] { initialize(make_patchwork(), adamw_config(), lonely); }, "communicator");
}

TEST(Misuse, ParameterThatIsAResult) {
  torch::nn::Linear model(2, 2);
  model->register_parameter("scaled", model->weight * 2.0);
  expect_misuse([&] { initialize(model, adamw_config(), alone()); }, "'scaled'");
}

// A frozen model computes; only training it is an error.
TEST(Misuse, NothingToTrain) {
  const std::vector<Patchwork> models = make_patchworks(2);
  for (const int world_size : {1, 2}) {
    run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
      const Patchwork& model = models[static_cast<std::size_t>(rank)];
      for (torch::Tensor& parameter : model->parameters()) parameter.set_requires_grad(false);
      const auto engine = initialize(model, adamw_config(2), rank_options(communicator));
      const torch::Tensor loss = loss_of(engine);
      EXPECT_GT(loss.item<double>(), 0.0);
      EXPECT_EQ(engine->memory().optimizer_state, 0);
      expect_misuse([&] { engine->backward(loss); }, "does not depend on a trainable parameter");
    });
  }
}

}  // namespace
}  // namespace deepscale::testing
