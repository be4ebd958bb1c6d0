#include "tests/torch/patchwork.h"

#include <gtest/gtest.h>

#include <unordered_set>

#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {

PatchworkImpl::PatchworkImpl() {
  namespace nn = torch::nn;
  embedding_ = register_module("embedding", nn::Embedding(kVocabulary, kWidth));
  convolution_ = register_module("convolution", nn::Conv1d(nn::Conv1dOptions(kWidth, kWidth, 3).padding(1)));
  lstm_ = register_module("lstm", nn::LSTM(nn::LSTMOptions(kWidth, kWidth).batch_first(true)));
  // An attention key's bias has no effect: its gradient is rounding noise, which Adam would turn into steps.
  attention_ = register_module("attention",
                               nn::MultiheadAttention(nn::MultiheadAttentionOptions(kWidth, 2).bias(false)));
  norm_ = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({kWidth})));
  widen_ = register_module("widen", nn::Linear(kWidth, 17));
  narrow_ = register_module("narrow", nn::Linear(17, kWidth));
  unused_ = register_module("unused", nn::Linear(5, 7));
  frozen_scale_ = register_parameter("frozen_scale", torch::full({kWidth}, 1.25), /*requires_grad=*/false);
  output_weight_ = register_parameter("output_weight", embedding_->weight);
}

torch::Tensor PatchworkImpl::forward(const torch::Tensor& tokens) {
  torch::Tensor x = embedding_(tokens);
  x = x + convolution_(x.transpose(1, 2)).transpose(1, 2);
  x = x + std::get<0>(lstm_(x));
  const torch::Tensor by_time = x.transpose(0, 1);
  x = norm_(x + std::get<0>(attention_(by_time, by_time, by_time)).transpose(0, 1));
  x = x + narrow_(torch::gelu(widen_(x * frozen_scale_)));
  return torch::linear(x, output_weight_);
}

Patchwork make_patchwork() {
  torch::manual_seed(1234);
  return Patchwork();
}

std::vector<torch::Tensor> trainable_parameters(const torch::nn::Module& module) {
  std::vector<torch::Tensor> parameters;
  std::unordered_set<const void*> seen;
  for (const torch::Tensor& parameter : module.parameters()) {
    if (parameter.defined() && parameter.requires_grad() &&
        seen.insert(parameter.unsafeGetTensorImpl()).second) {
      parameters.push_back(parameter);
    }
  }
  return parameters;
}

TokenBatch TokenBatch::rows(std::int64_t begin, std::int64_t count) const {
  return {tokens.narrow(0, begin, count), targets.narrow(0, begin, count)};
}

TokenBatch global_batch(int step) {
  const auto positions = torch::arange(kGlobalBatch * 5, torch::kLong).view({kGlobalBatch, 5});
  const auto tokens =
      (positions * positions + positions * (3 + step) + step).remainder(PatchworkImpl::kVocabulary);
  return {tokens, (tokens * 3 + 1).remainder(PatchworkImpl::kVocabulary)};
}

torch::Tensor token_loss(const torch::Tensor& logits, const torch::Tensor& targets) {
  return torch::nn::functional::cross_entropy(logits.flatten(0, 1).to(torch::kFloat), targets.flatten());
}

namespace {

std::vector<torch::Tensor> values_of(const std::vector<torch::Tensor>& parameters) {
  std::vector<torch::Tensor> values;
  for (const torch::Tensor& parameter : parameters) {
    values.push_back(parameter.detach().to(torch::kFloat, /*non_blocking=*/false, /*copy=*/true));
  }
  return values;
}

// One rank's part of train_with_engines().
class RankTraining {
 public:
  RankTraining(Patchwork model, const Config& config, const std::shared_ptr<Communicator>& communicator)
      : model_(std::move(model)) {
    engine_ = initialize(model_, config, rank_options(communicator));
  }

  void train(int steps) {
    const std::int64_t micro_steps = engine_->config().gradient_accumulation_steps;
    const std::int64_t count = kGlobalBatch / (engine_->world_size() * micro_steps);
    for (int step = 0; step < steps; ++step) {
      loss_scales.push_back(engine_->loss_scale());
      double loss_sum = 0.0;
      for (std::int64_t k = 0; k < micro_steps; ++k) {
        const TokenBatch batch = global_batch(step).rows((engine_->rank() * micro_steps + k) * count, count);
        const torch::Tensor loss = token_loss(engine_->forward(batch.tokens), batch.targets);
        engine_->backward(loss);
        const StepResult expected = k + 1 == micro_steps ? StepResult::kUpdated : StepResult::kAccumulating;
        EXPECT_EQ(engine_->step(), expected) << "step " << step << ", micro batch " << k;
        loss_sum += loss.item<double>();
      }
      losses.push_back(loss_sum / static_cast<double>(micro_steps));
    }
  }

  std::vector<torch::Tensor> parameters() const { return values_of(trainable_parameters(*model_)); }

  std::vector<double> losses;
  std::vector<double> loss_scales;

 private:
  Patchwork model_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

InitializeOptions rank_options(const std::shared_ptr<Communicator>& communicator) {
  InitializeOptions options;
  options.layout.rank = communicator->rank();
  options.layout.world_size = communicator->size();
  options.communicator = communicator;
  options.logger = Logger();
  return options;
}

std::vector<Patchwork> make_patchworks(int world_size) {
  std::vector<Patchwork> models;
  for (int rank = 0; rank < world_size; ++rank) models.push_back(make_patchwork());
  return models;
}

TrainingResult train_with_engines(int world_size, const Config& config, int steps) {
  TrainingResult result;
  result.losses.assign(static_cast<std::size_t>(steps), 0.0);
  result.parameters.resize(static_cast<std::size_t>(world_size));
  std::vector<std::vector<double>> losses(static_cast<std::size_t>(world_size));
  const std::vector<Patchwork> models = make_patchworks(world_size);
  std::mutex mutex;
  run_ranks(world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    RankTraining training(models[static_cast<std::size_t>(rank)], config, communicator);
    training.train(steps);
    std::vector<torch::Tensor> parameters = training.parameters();  // at stage 3 a collective
    const std::lock_guard lock(mutex);
    result.parameters[static_cast<std::size_t>(rank)] = std::move(parameters);
    losses[static_cast<std::size_t>(rank)] = training.losses;
    if (rank == 0) result.loss_scales = training.loss_scales;
  });
  for (const std::vector<double>& of_rank : losses) {  // in this order, for the same bits every time
    for (std::size_t i = 0; i < result.losses.size(); ++i) result.losses[i] += of_rank[i] / world_size;
  }
  return result;
}

TrainingResult train_reference(double gradient_clipping, int steps, const MakeUpdate& make_update) {
  at::set_num_threads(1);
  Patchwork model = make_patchwork();
  std::vector<torch::Tensor> parameters = trainable_parameters(*model);
  const Update update = make_update(parameters);
  TrainingResult result;
  for (int step = 0; step < steps; ++step) {
    const TokenBatch batch = global_batch(step);
    const torch::Tensor loss = token_loss(model(batch.tokens), batch.targets);
    for (torch::Tensor& parameter : parameters) parameter.mutable_grad() = torch::zeros_like(parameter);
    loss.backward();
    if (gradient_clipping > 0.0) torch::nn::utils::clip_grad_norm_(parameters, gradient_clipping);
    update(parameters, step);
    result.losses.push_back(loss.item<double>());
  }
  result.parameters.push_back(values_of(parameters));
  return result;
}

void expect_equal_losses(const TrainingResult& actual, const TrainingResult& expected, double tolerance) {
  ASSERT_EQ(actual.losses.size(), expected.losses.size());
  for (std::size_t step = 0; step < actual.losses.size(); ++step) {
    EXPECT_NEAR(actual.losses[step], expected.losses[step], tolerance * expected.losses[step])
        << "step " << step;
  }
}

void expect_equal_parameters(const TrainingResult& actual, const TrainingResult& expected, double tolerance) {
  const auto& ours = actual.parameters.front();
  const auto& theirs = expected.parameters.front();
  ASSERT_EQ(ours.size(), theirs.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double distance = (ours[i] - theirs[i]).norm().item<double>();
    EXPECT_LE(distance, tolerance * theirs[i].norm().item<double>()) << "parameter " << i;
  }
}

void expect_equal_models(const TrainingResult& actual, const TrainingResult& expected, double tolerance) {
  double distance = 0.0, length = 0.0;
  for (std::size_t i = 0; i < expected.parameters.front().size(); ++i) {
    const torch::Tensor& theirs = expected.parameters.front()[i];
    distance += (actual.parameters.front().at(i) - theirs).square().sum().item<double>();
    length += theirs.square().sum().item<double>();
  }
  EXPECT_LE(std::sqrt(distance), tolerance * std::sqrt(length));
}

void expect_equal_ranks(const TrainingResult& result) {
  for (std::size_t rank = 1; rank < result.parameters.size(); ++rank) {
    for (std::size_t i = 0; i < result.parameters[rank].size(); ++i) {
      EXPECT_TRUE(torch::equal(result.parameters[rank][i], result.parameters[0][i]))
          << "parameter " << i << " of rank " << rank;
    }
  }
}

}  // namespace deepscale::testing
