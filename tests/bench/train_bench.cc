// train_bench MODEL_FOLDER DS_CONFIG [STEPS] [SEQUENCE]: a rank that trains a model of the folder's
// config.json, from random weights, on random tokens; one thread each. Rank 0 prints tokens/s over all ranks,
// and peak RSS and PSS of each. Counterpart of DeepSpeed with the same shape and the same ds_config.json:
//
//   build/bin/deepscale launch --num_gpus 2 build/tests/train_bench opt-125m zero1.json
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <string>
#include <vector>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"
#include "runtime/models/language_model.h"
#include "tests/bench/bench_tools.h"

namespace deepscale {
namespace {

constexpr int kWarmUp = 2;

struct Options {
  std::string model, config;
  int steps = 5;
  std::int64_t sequence = 256;
};

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

void measure(const Options& options) {
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
    const double whole = bench::seconds_of([&] {
      const torch::Tensor loss = next_token_loss(engine->forward(tokens), tokens);
      engine->backward(loss);
      engine->step();
      losses.push_back(loss.item<double>());
      engine->communicator().barrier().wait();
    });
    if (step >= kWarmUp) seconds.push_back(whole);
    pss = std::max(pss, bench::megabytes_in("/proc/self/smaps_rollup", "Pss"));
  }
  const std::vector<double> rss = of_all_ranks(*engine, bench::megabytes_in("/proc/self/status", "VmHWM"));
  const std::vector<double> shares = of_all_ranks(*engine, pss);
  if (engine->rank() != 0) return;
  const double median = bench::median(seconds);
  fmt::print(
      "{} ranks, stage {}, {}: {:.1f} tokens/s (median step {:.3f} s, least {:.3f}), peak RSS {:.0f} MB, PSS "
      "after "
      "steps {:.0f} MB, losses {:.4f}\n",
      engine->world_size(), engine->config().zero.stage, dtype_name(engine->config().dtype),
      static_cast<double>(engine->world_size() * batch * options.sequence) / median, median,
      *std::min_element(seconds.begin(), seconds.end()), fmt::join(rss, ", "), fmt::join(shares, ", "),
      fmt::join(losses, ", "));
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  using namespace deepscale;
  Options options;
  cxxopts::Options line("train_bench", "Training on random tokens.");
  auto add = line.add_options();
  add("model", "folder", cxxopts::value(options.model));
  add("config", "ds_config.json", cxxopts::value(options.config));
  add("steps", "", cxxopts::value(options.steps));
  add("sequence", "tokens", cxxopts::value(options.sequence));
  line.parse_positional({"model", "config", "steps", "sequence"});
  line.positional_help("MODEL_FOLDER DS_CONFIG [STEPS] [SEQUENCE]");
  return bench::run(line, argc, argv, [&] {
    if (options.config.empty())
      throw Error(ErrorCode::kInvalidArgument,
                  "usage: train_bench MODEL_FOLDER DS_CONFIG [STEPS] [SEQUENCE]");
    measure(options);
  });
}
