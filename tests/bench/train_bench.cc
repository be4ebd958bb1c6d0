// train_bench MODEL_FOLDER DS_CONFIG [STEPS] [SEQUENCE]: a rank that trains a model of the folder's
// config.json, from random weights, on random tokens; one thread each. Rank 0 prints tokens/s over all ranks,
// and peak RSS and PSS of each. Counterpart of DeepSpeed with the same shape and the same ds_config.json:
//
//   build/bin/deepscale launch --num_gpus 2 build/tests/train_bench opt-125m zero1.json
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"
#include "runtime/models/language_model.h"

namespace deepscale {
namespace {

constexpr int kWarmUp = 2;

struct Options {
  std::string model, config;
  int steps = 5;
  std::int64_t sequence = 256;
};

Options parse(int count, char** arguments) {
  if (count < 3)
    throw Error(ErrorCode::kInvalidArgument, "usage: train_bench MODEL_FOLDER DS_CONFIG [STEPS] [SEQUENCE]");
  Options options{.model = arguments[1], .config = arguments[2]};
  if (count > 3) options.steps = std::max(1, std::atoi(arguments[3]));
  if (count > 4) options.sequence = std::max(2, std::atoi(arguments[4]));
  return options;
}

// In MB; 0 where the system does not tell.
double megabytes_in(const char* file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(key, 0) == 0) return std::atof(line.c_str() + key.size()) / 1024.0;
  }
  return 0.0;
}

std::vector<double> of_all_ranks(Engine& engine, double value) {
  std::vector<double> values(static_cast<std::size_t>(engine.world_size()));
  float mine = static_cast<float>(value);
  std::vector<float> all(values.size());
  engine.communicator()
      .all_gather({.data = &mine, .count = 1}, {.data = all.data(), .count = engine.world_size()})
      .wait();
  std::copy(all.begin(), all.end(), values.begin());
  return values;
}

void run(const Options& options) {
  at::set_num_threads(1);
  torch::manual_seed(0);
  ModelConfig shape = read_model_config(options.model);
  shape.dropout = shape.attention_dropout = shape.embedding_dropout = 0.0;
  const std::shared_ptr<LanguageModel> model = make_language_model(shape);
  initialize_weights(*model, shape);
  const auto engine = initialize(model, options.config);
  torch::manual_seed(1 + engine->rank());
  const std::int64_t batch = engine->config().micro_batch_size;
  const torch::Tensor tokens = torch::randint(shape.vocab_size, {batch, options.sequence}, torch::kLong);
  std::vector<double> seconds, losses;
  double pss = 0.0;
  for (int step = 0; step < kWarmUp + options.steps; ++step) {
    engine->communicator().barrier().wait();
    const auto begin = std::chrono::steady_clock::now();
    const torch::Tensor loss = next_token_loss(engine->forward(tokens), tokens);
    engine->backward(loss);
    engine->step();
    losses.push_back(loss.item<double>());
    engine->communicator().barrier().wait();
    if (step >= kWarmUp)
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    pss = std::max(pss, megabytes_in("/proc/self/smaps_rollup", "Pss:"));
  }
  const std::vector<double> rss = of_all_ranks(*engine, megabytes_in("/proc/self/status", "VmHWM:"));
  const std::vector<double> shares = of_all_ranks(*engine, pss);
  if (engine->rank() != 0) return;
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  fmt::print(
      "{} ranks, stage {}, {}: {:.1f} tokens/s (median step {:.3f} s, least {:.3f}), peak RSS {:.0f} MB, PSS "
      "after "
      "steps {:.0f} MB, losses {:.4f}\n",
      engine->world_size(), engine->config().zero.stage, dtype_name(engine->config().dtype),
      static_cast<double>(engine->world_size() * batch * options.sequence) / median, median, seconds.front(),
      fmt::join(rss, ", "), fmt::join(shares, ", "), fmt::join(losses, ", "));
}

}  // namespace
}  // namespace deepscale

int main(int count, char** arguments) {
  try {
    deepscale::run(deepscale::parse(count, arguments));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "train_bench: {}\n", error.what());
    return 1;
  }
}
