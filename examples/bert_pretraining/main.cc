// Pre-trains a BERT on text files, on all ranks of the job, and goes on from its last checkpoint.
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "comm/base/clock.h"
#include "examples/bert_pretraining/options.h"
#include "examples/bert_pretraining/text_data.h"
#include "examples/common/program.h"
#include "examples/common/tokenizer_files.h"
#include "runtime/deepscale.h"
#include "runtime/models/bert.h"

namespace bert_pretraining {
namespace {

deepscale::ModelConfig make_model_config(const Options& options, const deepscale::Tokenizer& tokenizer) {
  const std::string text = fmt::format(
      R"({{"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": {}, "hidden_size": {},
           "num_hidden_layers": {}, "num_attention_heads": {}, "intermediate_size": {}, "max_position_embeddings": {},
           "hidden_dropout_prob": {}, "attention_probs_dropout_prob": {}, "pad_token_id": {}}})",
      tokenizer.size(), options.hidden_size, options.layers, options.heads, options.inner_size,
      options.sequence_length, options.dropout, options.dropout, tokenizer.find("[PAD]").value_or(0));
  return deepscale::parse_model_config(text, "the model of the options");
}

deepscale::Config make_config(const Options& options, int world_size) {
  const deepscale::ConfigContext context{.data_parallel_world_size = world_size,
                                         .micro_batch_size = options.batch_size,
                                         .lr = options.learning_rate,
                                         .dtype = options.dtype};
  if (!options.config_path.empty()) return deepscale::load_config(options.config_path, context);
  deepscale::Config config;
  config.micro_batch_size = options.batch_size;
  config.train_batch_size = options.batch_size * world_size;
  config.dtype = options.dtype;
  config.optimizer = deepscale::OptimizerConfig{.lr = options.learning_rate, .betas = {0.9, 0.999}};
  config.zero.stage = options.stage;
  return config;
}

// Mean losses and speed, as the announcement's log has them.
class Progress {
 public:
  Progress(const deepscale::Engine& engine, const Options& options) : engine_(engine), options_(options) {}

  void add(const torch::Tensor& loss) {
    loss_sum_ += loss.detach().to(torch::kCPU, torch::kDouble);
    ++steps_;
    if (engine_.global_steps() % options_.log_every == 0) print();
  }

 private:
  void print() {
    const auto now = deepscale::Clock::now();
    const auto speed = [&](deepscale::Clock::time_point since, std::int64_t steps) {
      const std::chrono::duration<double> elapsed = now - since;
      return static_cast<double>(steps * engine_.config().train_batch_size) / elapsed.count();
    };
    steps_in_all_ += steps_;
    if (engine_.rank() == 0) {
      const deepscale::MemoryReport memory = engine_.memory();
      const std::int64_t step = engine_.global_steps();
      const auto& betas = engine_.config().optimizer->betas;
      fmt::print("step={}, skipped={}, lr=[{}], mom=[({}, {})]\n", step, engine_.skipped_steps(),
                 engine_.learning_rate(), betas[0], betas[1]);
      fmt::print(
          "global_step={}, RunningAvgSamplesPerSec={:.3f}, CurrSamplesPerSec={:.3f}, MemAllocated={:.2f}GB\n",
          step, speed(start_, steps_in_all_), speed(last_, steps_),
          static_cast<double>(memory.parameters + memory.gradients + memory.optimizer_state) / (1 << 30));
      fmt::print("Loss: {:.4f}\n", loss_sum_.item<double>() / static_cast<double>(steps_));
      std::fflush(stdout);  // else a pipe keeps it until the end
    }
    loss_sum_.zero_();
    steps_ = 0;
    last_ = now;
  }

  const deepscale::Engine& engine_;
  const Options& options_;
  torch::Tensor loss_sum_ = torch::zeros({}, torch::kDouble);
  std::int64_t steps_ = 0, steps_in_all_ = 0;
  deepscale::Clock::time_point start_ = deepscale::Clock::now(), last_ = start_;
};

class Trainer {
 public:
  Trainer(deepscale::Engine& engine, const TextSamples& samples, const deepscale::Tokenizer& tokenizer,
          const Options& options)
      : engine_(engine),
        samples_(samples),
        tokenizer_(tokenizer),
        options_(options),
        mask_token_(mask_token_of(tokenizer)),
        order_({.samples = samples.count(),
                .batch_size = engine.config().micro_batch_size,
                .rank = engine.rank(),
                .world_size = engine.world_size(),
                .seed = options.seed}) {}

  void run() {
    Progress progress(engine_, options_);
    engine_.module().train();
    while (engine_.global_steps() < options_.iterations) {
      progress.add(step());
      const bool is_last = engine_.global_steps() == options_.iterations;
      if (!is_last && engine_.global_steps() % options_.checkpoint_every != 0) continue;
      engine_.save_checkpoint(options_.checkpoint_dir);
      if (engine_.rank() == 0) fmt::print("Saved model to {}\n", options_.checkpoint_dir);
    }
  }

 private:
  // One optimizer step; the loss of its last micro step.
  torch::Tensor step() {
    const std::int64_t micro_steps = engine_.config().gradient_accumulation_steps;
    const std::int64_t first = engine_.global_steps() * micro_steps;
    torch::Tensor loss;
    for (std::int64_t micro_step = first; micro_step < first + micro_steps; ++micro_step) {
      const MaskedBatch batch = mask(samples_, order_.of(micro_step), tokenizer_,
                                     {.probability = options_.mask_probability,
                                      .mask_token = mask_token_,
                                      .vocabulary = tokenizer_.size(),
                                      .seed = options_.seed,
                                      .step = static_cast<std::uint64_t>(micro_step),
                                      .rank = static_cast<std::uint64_t>(engine_.rank())});
      loss = engine_.forward(as_tensor(batch.tokens), torch::Tensor(), as_tensor(batch.labels));
      engine_.backward(loss);
      engine_.step();
    }
    return loss;
  }

  torch::Tensor as_tensor(const std::vector<std::int64_t>& values) const {
    return torch::tensor(values, torch::kLong).view({-1, samples_.length()});
  }

  deepscale::Engine& engine_;
  const TextSamples& samples_;
  const deepscale::Tokenizer& tokenizer_;
  const Options& options_;
  const std::int64_t mask_token_;
  SampleOrder order_;
};

void run(const Options& options) {
  const auto environment = deepscale::Environment::of_process();
  const auto layout = deepscale::WorldLayout::from_environment(environment);
  examples::share_cores(layout, environment);
  const auto tokenizer = deepscale::Tokenizer::from_pretrained(options.tokenizer_path);
  const TextSamples samples(options.data_path, tokenizer, options.sequence_length);
  const deepscale::ModelConfig model_config = make_model_config(options, tokenizer);
  torch::manual_seed(options.seed);
  const auto model = std::make_shared<deepscale::BertForMaskedLm>(model_config);
  deepscale::initialize_weights(*model, model_config);
  const auto engine =
      deepscale::initialize(model, make_config(options, layout.world_size), deepscale::join_job());
  torch::manual_seed(options.seed + 1 + static_cast<std::uint64_t>(engine->rank()));  // dropout of its own
  if (std::filesystem::exists(std::filesystem::path(options.checkpoint_dir) / "latest")) {
    const auto loaded = engine->load_checkpoint(options.checkpoint_dir);
    if (engine->rank() == 0) fmt::print("Resuming from {} at step {}\n", loaded.tag, engine->global_steps());
  }
  if (engine->rank() == 0) {
    fmt::print("Training on {} samples of {} tokens; ranks: {} on {}, {}, ZeRO stage {}\n", samples.count(),
               samples.length(), engine->world_size(), engine->device().str(),
               deepscale::dtype_name(engine->config().dtype), engine->config().zero.stage);
  }
  Trainer(*engine, samples, tokenizer, options).run();
  if (options.output_dir.empty()) return;
  deepscale::save_pretrained(*model, model_config, options.output_dir, {.writes = engine->rank() == 0});
  if (engine->rank() == 0) examples::copy_tokenizer_files(options.tokenizer_path, options.output_dir);
}

}  // namespace
}  // namespace bert_pretraining

int main(int argc, char** argv) {
  return examples::run_program("bert_pretraining", [&] {
    if (const auto options = bert_pretraining::parse_options(argc, argv)) bert_pretraining::run(*options);
  });
}
