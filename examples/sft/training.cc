#include "examples/sft/training.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "comm/base/clock.h"
#include "examples/common/distributed_sampler.h"
#include "runtime/models/language_model.h"

namespace sft {
namespace {

double seconds_since(deepscale::Clock::time_point start) {
  return std::chrono::duration<double>(deepscale::Clock::now() - start).count();
}

// Floating-point operations of one micro step of one rank, as DeepSpeed-Chat counts them.
double operations(const deepscale::ModelConfig& model, const Options& options, const Batch& batch) {
  const auto layers = static_cast<double>(model.layers);
  const auto hidden = static_cast<double>(model.hidden_size);
  const auto vocabulary = static_cast<double>(model.vocab_size);
  const auto sequence = static_cast<double>(batch.tokens.size(1));
  double passes = 3.0;  // forward, and twice that backward
  if (options.lora_rank > 0) passes -= 1.0 - 2.0 * static_cast<double>(options.lora_rank) / hidden;
  return 24.0 * passes * static_cast<double>(batch.tokens.size(0)) * sequence * layers * hidden * hidden *
         (1.0 + sequence / (6.0 * hidden) + vocabulary / (16.0 * layers * hidden));
}

}  // namespace

Batch make_batch(const std::vector<const Sample*>& samples, const BatchOptions& options) {
  std::size_t length = 0;
  for (const Sample* sample : samples) length = std::max(length, sample->tokens.size());
  const std::vector<std::int64_t> sizes = {static_cast<std::int64_t>(samples.size()),
                                           static_cast<std::int64_t>(length)};
  Batch batch{.tokens = torch::full(sizes, options.padding, torch::kLong),
              .labels = torch::full(sizes, deepscale::kIgnoredLabel, torch::kLong)};
  for (std::size_t row = 0; row < samples.size(); ++row) {
    const Sample& sample = *samples[row];
    const torch::Tensor tokens = torch::tensor(sample.tokens, torch::kLong);
    const std::int64_t first = options.counts_prompt ? 0 : sample.prompt_tokens;
    const auto index = static_cast<std::int64_t>(row);
    batch.tokens[index].narrow(0, 0, tokens.size(0)).copy_(tokens);
    batch.labels[index]
        .narrow(0, first, tokens.size(0) - first)
        .copy_(tokens.narrow(0, first, tokens.size(0) - first));
  }
  return batch;
}

Trainer::Trainer(deepscale::Engine& engine, const deepscale::ModelConfig& model, const Options& options)
    : engine_(engine),
      model_(model),
      options_(options),
      batch_options_{.padding = std::max<std::int64_t>(model.pad_token, 0),
                     .counts_prompt = options.counts_prompt} {
  for (const torch::Tensor& parameter : engine.module().parameters()) parameters_ += parameter.numel();
}

void Trainer::run(const std::vector<Sample>& training, const std::vector<Sample>& evaluation) {
  evaluate(0, evaluation);
  std::vector<std::int64_t> counted;
  for (const Sample& sample : training) counted.push_back(counted_tokens(sample, options_.counts_prompt));
  const auto epochs = micro_batches({.batch_size = options_.train_batch_size,
                                     .accumulation_steps = options_.gradient_accumulation_steps,
                                     .world_size = engine_.world_size(),
                                     .epochs = options_.epochs,
                                     .seed = options_.seed},
                                    engine_.rank(), counted);
  for (int epoch = 0; epoch < options_.epochs; ++epoch) {
    const bool goes_on = train_epoch(epoch, epochs[static_cast<std::size_t>(epoch)], training);
    evaluate(epoch + 1, evaluation);
    if (!goes_on) return;
  }
}

bool Trainer::train_epoch(int epoch, const std::vector<MicroBatch>& micro_batches,
                          const std::vector<Sample>& samples) {
  if (engine_.rank() == 0) {
    fmt::print("Beginning of Epoch {}/{}, Total Micro Batches {}\n", epoch + 1, options_.epochs,
               micro_batches.size());
  }
  engine_.module().train();
  for (std::size_t step = 0; step < micro_batches.size(); ++step) {
    const auto start = deepscale::Clock::now();
    std::vector<const Sample*> chosen;
    for (const std::int64_t index : micro_batches[step].samples)
      chosen.push_back(&samples[static_cast<std::size_t>(index)]);
    const Batch batch = make_batch(chosen, batch_options_);
    const torch::Tensor loss = engine_.forward(batch.tokens, batch.labels);
    engine_.backward(loss * micro_batches[step].weight);
    engine_.step();
    if (options_.prints_loss) {
      fmt::print("Epoch: {}, Step: {}, Rank: {}, loss = {}\n", epoch, step, engine_.rank(),
                 loss.item<double>());
    }
    if (engine_.rank() == 0) print_throughput(seconds_since(start), batch);
    if (options_.steps_limit > 0 && engine_.global_steps() >= options_.steps_limit) return false;
  }
  return true;
}

void Trainer::print_throughput(double seconds, const Batch& batch) const {
  const auto samples = static_cast<double>(batch.tokens.size(0) * engine_.world_size());
  const auto teraflops = operations(model_, options_, batch) / seconds / 1e12;
  fmt::print(
      "Model Parameters: {:.3f} B, Latency: {:.2f}s, TFLOPs: {:.2f}, Samples/sec: {:.2f}, Time/seq {:.2f}s, "
      "Batch "
      "Size: {}, Sequence Length: {}\n",
      static_cast<double>(parameters_) / 1e9, seconds, teraflops, samples / seconds, seconds / samples,
      batch.tokens.size(0), batch.tokens.size(1));
  std::fflush(stdout);  // else a pipe keeps it until the end
}

void Trainer::evaluate(int epoch, const std::vector<Sample>& samples) {
  if (engine_.rank() == 0) {
    fmt::print("***** Evaluating perplexity, Epoch {}/{} *****\n", epoch, options_.epochs);
  }
  const torch::NoGradGuard no_grad;
  engine_.module().eval();
  const examples::DistributedSampler sampler(static_cast<std::int64_t>(samples.size()), engine_.rank(),
                                             engine_.world_size(), 0);
  const std::vector<std::int64_t> order = sampler.indices(0);
  const auto batch_size = static_cast<std::size_t>(options_.eval_batch_size);
  std::array<float, 2> sums = {};  // of the tokens' losses, and of the tokens
  for (std::size_t first = 0; first < order.size(); first += batch_size) {
    std::vector<const Sample*> chosen;
    for (std::size_t i = first; i < std::min(first + batch_size, order.size()); ++i) {
      chosen.push_back(&samples[static_cast<std::size_t>(order[i])]);
    }
    const Batch batch = make_batch(chosen, batch_options_);
    const auto tokens = batch.labels.slice(1, 1).ne(deepscale::kIgnoredLabel).sum().item<float>();
    sums[0] += tokens * engine_.forward(batch.tokens, batch.labels).item<float>();
    sums[1] += tokens;
  }
  engine_.communicator()
      .all_reduce({.data = sums.data(), .count = 2, .dtype = deepscale::DType::kFloat32},
                  deepscale::ReduceOp::kSum)
      .wait();
  const double loss = sums[0] / sums[1];
  if (engine_.rank() == 0) fmt::print("ppl: {:.4f}, loss: {:.4f}\n", std::exp(loss), loss);
  std::fflush(stdout);
}

}  // namespace sft
