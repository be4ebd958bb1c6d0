// A small model of many kinds of layers, as a user writes one, its data, and two ways to train it: with ranks
// that each have an Engine, and with a bare LibTorch loop in one process. Both see the same initial values
// and the same global batches.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <vector>

#include "runtime/config/config.h"
#include "runtime/engine/engine.h"

namespace deepscale::testing {

// Embedding tied to the output, Conv1d, LSTM, MultiheadAttention, LayerNorm, a Linear of odd sizes, a layer
// that is never used, a frozen parameter, and one tensor that is registered under two names.
class PatchworkImpl : public torch::nn::Module {
 public:
  static constexpr std::int64_t kVocabulary = 19;
  static constexpr std::int64_t kWidth = 12;

  PatchworkImpl();
  torch::Tensor forward(const torch::Tensor& tokens);  // int64 [batch, time] -> [batch, time, kVocabulary]

 private:
  torch::nn::Embedding embedding_ = nullptr;
  torch::nn::Conv1d convolution_ = nullptr;
  torch::nn::LSTM lstm_ = nullptr;
  torch::nn::MultiheadAttention attention_ = nullptr;
  torch::nn::LayerNorm norm_ = nullptr;
  torch::nn::Linear widen_ = nullptr;
  torch::nn::Linear narrow_ = nullptr;
  torch::nn::Linear unused_ = nullptr;
  torch::Tensor frozen_scale_;
  torch::Tensor output_weight_;  // the embedding's weight
};
TORCH_MODULE(Patchwork);

// The same values at every call.
Patchwork make_patchwork();
// The parameters that are trained, each once.
std::vector<torch::Tensor> trainable_parameters(const torch::nn::Module& module);

// Divides evenly among 1 to 4 ranks with 1 or 3 micro batches each.
constexpr std::int64_t kGlobalBatch = 36;
struct TokenBatch {
  torch::Tensor tokens;   // int64 [rows, time]
  torch::Tensor targets;  // int64 [rows, time]
  TokenBatch rows(std::int64_t begin, std::int64_t count) const;
};
TokenBatch global_batch(int step);
torch::Tensor token_loss(const torch::Tensor& logits, const torch::Tensor& targets);  // mean, in fp32

struct TrainingResult {
  std::vector<double> losses;                          // per step, over the global batch
  std::vector<double> loss_scales;                     // per step, used in it
  std::vector<std::vector<torch::Tensor>> parameters;  // per rank, after the last step, in fp32
};

// What initialize() needs of a rank that is a thread. It logs nothing.
InitializeOptions rank_options(const std::shared_ptr<Communicator>& communicator);
// One model for each rank; made one after another, since the random generator is the process's.
std::vector<Patchwork> make_patchworks(int world_size);

// Ranks are threads. The micro batch size follows from the world and gradient_accumulation_steps.
TrainingResult train_with_engines(int world_size, const Config& config, int steps);

// Gradients are clipped and defined, zero where backward gave none, when `update` gets them.
using Update = std::function<void(std::vector<torch::Tensor>& parameters, int step)>;
using MakeUpdate = std::function<Update(std::vector<torch::Tensor>& parameters)>;
TrainingResult train_reference(double gradient_clipping, int steps, const MakeUpdate& make_update);

// Each fails the test where `actual` is further from `expected` than the relative tolerance: in the loss of a
// step, in the norm of a parameter, in the norm of all parameters together.
void expect_equal_losses(const TrainingResult& actual, const TrainingResult& expected, double tolerance);
void expect_equal_parameters(const TrainingResult& actual, const TrainingResult& expected, double tolerance);
void expect_equal_models(const TrainingResult& actual, const TrainingResult& expected, double tolerance);
// Fails the test where a rank's parameters differ from rank 0's in any bit.
void expect_equal_ranks(const TrainingResult& result);

}  // namespace deepscale::testing
