// Ranks that do not do the same: other branches of a model, sparse gradients, and ranks that fail in the
// middle of training.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <mutex>

#include "comm/base/error.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

Config sgd_config(int stage, std::int64_t accumulation = 1) {
  Config config;
  config.gradient_clipping = 0.0;
  config.gradient_accumulation_steps = accumulation;
  config.optimizer = OptimizerConfig{.kind = OptimizerKind::kSgd, .lr = 0.1, .momentum = 0.5};
  config.zero = {.stage = stage, .reduce_bucket_size = 30};
  return config;
}

class Stages : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Engine, Stages, ::testing::Values(0, 1, 2),
                         [](const auto& info) { return fmt::format("Stage{}", info.param); });

// --- control flow
// --------------------------------------------------------------------------------------------------

struct BranchesImpl : torch::nn::Module {
  BranchesImpl() {
    torch::manual_seed(5);
    for (int i = 0; i < 3; ++i) branches->push_back(torch::nn::Linear(4, 3));
    register_module("branches", branches);
  }
  torch::Tensor forward(const torch::Tensor& x, std::int64_t branch) {
    return branches[static_cast<std::size_t>(branch)]->as<torch::nn::Linear>()->forward(x).square().mean();
  }
  torch::nn::ModuleList branches;
};
TORCH_MODULE(Branches);

torch::Tensor branch_input(int step, int rank, int micro_step) {
  return torch::arange(8, torch::kFloat).view({2, 4}) * 0.1 + 0.2 * step - 0.3 * rank + 0.1 * micro_step;
}

// Which branch runs depends on all three; branch 2 never runs in some steps, and never on every rank.
std::int64_t branch_of(int step, int rank, int micro_step) {
  return (step + rank * 2 + micro_step) % (step % 2 == 0 ? 2 : 3);
}

TEST_P(Stages, RanksMayTakeDifferentBranches) {
  constexpr int kWorldSize = 2, kAccumulation = 3, kSteps = 6;
  Branches reference;
  torch::optim::SGD optimizer(reference->parameters(), torch::optim::SGDOptions(0.1).momentum(0.5));
  for (int step = 0; step < kSteps; ++step) {
    for (torch::Tensor& parameter : reference->parameters())
      parameter.mutable_grad() = torch::zeros_like(parameter);
    for (int rank = 0; rank < kWorldSize; ++rank) {
      for (int k = 0; k < kAccumulation; ++k) {
        const torch::Tensor loss = reference(branch_input(step, rank, k), branch_of(step, rank, k));
        (loss / (kWorldSize * kAccumulation)).backward();
      }
    }
    optimizer.step();
  }

  std::vector<Branches> models(kWorldSize);
  run_ranks(kWorldSize, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const auto engine = initialize(models[static_cast<std::size_t>(rank)],
                                   sgd_config(GetParam(), kAccumulation), rank_options(communicator));
    for (int step = 0; step < kSteps; ++step) {
      for (int k = 0; k < kAccumulation; ++k) {
        engine->backward(engine->forward(branch_input(step, rank, k), branch_of(step, rank, k)));
        engine->step();
      }
    }
  });
  const std::vector<torch::Tensor> expected = reference->parameters();
  for (const Branches& model : models) {
    const std::vector<torch::Tensor> ours = model->parameters();
    for (std::size_t i = 0; i < ours.size(); ++i)
      EXPECT_TRUE(torch::allclose(ours[i], expected[i], 1e-5, 1e-6)) << i;
  }
}

// --- sparse gradients
// ----------------------------------------------------------------------------------------------

struct LookupImpl : torch::nn::Module {
  explicit LookupImpl(bool sparse) {
    torch::manual_seed(6);
    table = register_module("table", torch::nn::Embedding(torch::nn::EmbeddingOptions(11, 5).sparse(sparse)));
    output = register_module("output", torch::nn::Linear(5, 3));
  }
  torch::Tensor forward(const torch::Tensor& index) { return output(table(index)).square().mean(); }
  torch::nn::Embedding table = nullptr;
  torch::nn::Linear output = nullptr;
};
TORCH_MODULE(Lookup);

TEST_P(Stages, SparseGradientsCountAsDenseOnes) {
  for (const int world_size : {1, 2}) {
    for (const auto gradient_dtype : {DType::kFloat32, DType::kBFloat16}) {
      Config config = sgd_config(GetParam(), 2);
      config.gradient_accumulation_dtype = gradient_dtype;
      const auto train = [&](const std::vector<Lookup>& models) {
        run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
          const auto engine =
              initialize(models[static_cast<std::size_t>(rank)], config, rank_options(communicator));
          for (int micro_step = 0; micro_step < 8; ++micro_step) {
            const torch::Tensor index =
                (torch::arange(7, torch::kLong) * (micro_step + rank + 1)).remainder(11);
            engine->backward(engine->forward(index));
            engine->step();
          }
        });
      };
      std::vector<Lookup> sparse, dense;
      for (int rank = 0; rank < world_size; ++rank) {
        sparse.emplace_back(true);
        dense.emplace_back(false);
      }
      train(sparse);
      train(dense);
      const auto ours = sparse.back()->parameters(), expected = dense.back()->parameters();
      const double tolerance = gradient_dtype == DType::kFloat32 ? 1e-6 : 1e-3;
      for (std::size_t i = 0; i < ours.size(); ++i) {
        EXPECT_TRUE(torch::allclose(ours[i], expected[i], tolerance, tolerance)) << i;
      }
    }
  }
}

// --- shared gradients
// ----------------------------------------------------------------------------------------------

// Each parameter fills a bucket alone. Autograd hands the same memory to `plain` as its gradient and to what
// comes before the sum with `curved`, which it reaches later.
struct SumImpl : torch::nn::Module {
  SumImpl() {
    curved = register_parameter("curved", torch::linspace(-1, 1, 128));
    plain = register_parameter("plain", torch::linspace(0, 1, 128).view({4, 32}));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor bent = curved.tanh();
    return ((bent + plain.view({-1})) * x).sum();
  }
  torch::Tensor curved, plain;
};
TORCH_MODULE(Sum);

TEST_P(Stages, AGradientThatAutogradStillReadsIsLeftAlone) {
  constexpr int kMicroSteps = 4;
  const auto input = [](int rank, int micro_step) {
    return torch::linspace(1, 2 + rank, 128) * (1 + micro_step);
  };
  const Sum reference;
  torch::Tensor mean = torch::zeros({128});
  for (int k = 0; k < kMicroSteps; ++k) mean += (input(0, k) + input(1, k)) / (2 * kMicroSteps);
  const torch::Tensor curved = reference->curved.detach();
  const torch::Tensor expected = curved - 0.1 * mean * (1 - curved.tanh().square());
  run_ranks(2, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const Sum model;
    const auto engine = initialize(model, sgd_config(GetParam(), kMicroSteps), rank_options(communicator));
    for (int k = 0; k < kMicroSteps; ++k) {
      engine->backward(engine->forward(input(rank, k)));
      engine->step();
    }
    EXPECT_TRUE(torch::allclose(model->curved, expected, 1e-5, 1e-6));
  });
}

// --- failures
// ------------------------------------------------------------------------------------------------------

struct RankFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Autograd gets to the embedding last, when the reductions of other layers are on their way.
void fail_late_in_backward(torch::nn::Module& module, const std::string& embedding) {
  torch::Tensor weight = module.named_parameters()[embedding + ".weight"];
  weight.register_hook([](const torch::Tensor&) -> torch::Tensor { throw RankFailed("in backward"); });
}

// Runs three ranks, of which rank 1 fails in step 2, and expects an Error on the others.
void expect_others_are_told(int stage, const std::function<void(Engine&, const torch::Tensor& loss)>& fail) {
  const std::vector<Patchwork> models = make_patchworks(3);
  std::mutex mutex;
  int told = 0;
  const auto train = [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    const auto engine =
        initialize(models[static_cast<std::size_t>(rank)], sgd_config(stage), rank_options(communicator));
    for (int step = 0; step < 5; ++step) {
      const TokenBatch batch = global_batch(step).rows(rank * 12, 12);
      const torch::Tensor loss = token_loss(engine->forward(batch.tokens), batch.targets);
      if (rank == 1 && step == 2) fail(*engine, loss);
      engine->backward(loss);
      engine->step();
    }
  };
  const auto started = Clock::now();
  EXPECT_THROW(
      run_ranks(3,
                [&](int rank, const std::shared_ptr<Communicator>& communicator) {
                  try {
                    train(rank, communicator);
                  } catch (const Error& error) {
                    EXPECT_NE(rank, 1) << error.what();
                    EXPECT_TRUE(error.code() == ErrorCode::kPeerLost || error.code() == ErrorCode::kAborted)
                        << error.what();
                    const std::lock_guard lock(mutex);
                    ++told;
                  }
                }),
      RankFailed);
  EXPECT_EQ(told, 2);
  EXPECT_LT(Clock::now() - started, std::chrono::seconds(30)) << "the others waited for the deadline";
}

TEST_P(Stages, ARankThatDiesBetweenStepsEndsTheOthers) {
  expect_others_are_told(GetParam(),
                         [](Engine&, const torch::Tensor&) { throw RankFailed("between steps"); });
}

TEST_P(Stages, ARankThatDiesInBackwardEndsTheOthers) {
  expect_others_are_told(GetParam(), [](Engine& engine, const torch::Tensor& loss) {
    fail_late_in_backward(engine.module(), "embedding");
    engine.backward(loss);
  });
}

// Rank 0 of 2, whose peer never answers: reductions and gathers stay in flight until abort().
class UnansweredCommunicator final : public Communicator {
 public:
  struct Pending final : Work::State {
    bool is_done() const override { return aborted; }
    void wait() override {
      waited = true;
      if (!aborted) ADD_FAILURE() << "waits for an operation that nobody answers";
      throw Error(ErrorCode::kAborted, "aborted");
    }
    bool aborted = false;
    bool waited = false;
  };

  int rank() const override { return 0; }
  int size() const override { return 2; }
  const char* backend() const override { return "unanswered"; }
  bool supports(DeviceKind) const override { return true; }
  Work all_reduce(Buffer, ReduceOp) override { return start(); }
  Work reduce_scatter(Buffer, Buffer, ReduceOp) override { return start(); }
  Work all_gather(Buffer, Buffer) override { return start(); }
  Work broadcast(Buffer, int) override { return Work(); }
  Work all_to_all(Buffer, Buffer) override { return start(); }
  Work send(Buffer, int) override { return start(); }
  Work receive(Buffer, int) override { return start(); }
  Work barrier() override { return start(); }
  void abort(const std::string&) override {
    for (const auto& operation : operations) operation->aborted = true;
  }

  std::vector<std::shared_ptr<Pending>> operations;

 private:
  Work start() { return Work(operations.emplace_back(std::make_shared<Pending>())); }
};

// Buffers belong to an operation until its wait() returns, so an Engine that goes must have waited, and
// before that must have aborted what would never end.
TEST_P(Stages, AFailedBackwardLeavesNothingInFlight) {
  const auto communicator = std::make_shared<UnansweredCommunicator>();
  auto engine = initialize(Lookup(false), sgd_config(GetParam()), rank_options(communicator));
  const torch::Tensor loss = engine->forward(torch::arange(3, torch::kLong));
  fail_late_in_backward(engine->module(), "table");
  EXPECT_THROW(engine->backward(loss), RankFailed);
  engine.reset();
  EXPECT_FALSE(communicator->operations.empty());
  for (const auto& operation : communicator->operations) EXPECT_TRUE(operation->waited);
}

}  // namespace
}  // namespace deepscale::testing
