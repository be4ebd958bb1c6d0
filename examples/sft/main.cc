// Fine-tunes a language model on prompts and responses, on all ranks of the job, and saves it.
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <filesystem>

#include "comm/base/error.h"
#include "examples/common/program.h"
#include "examples/common/tokenizer_files.h"
#include "examples/sft/options.h"
#include "examples/sft/training.h"
#include "runtime/deepscale.h"
#include "runtime/models/lora.h"
#include "runtime/models/next_token_loss.h"
#include "runtime/models/pretrained.h"

namespace sft {
namespace {

using deepscale::Error;
using deepscale::ErrorCode;

constexpr double kSmallestRate = 0.01;  // where a cosine ends, of the learning rate

deepscale::Config make_config(const Options& options, int world_size, std::int64_t steps) {
  deepscale::Config config;
  config.micro_batch_size = options.train_batch_size;
  config.gradient_accumulation_steps = options.gradient_accumulation_steps;
  config.train_batch_size = options.train_batch_size * options.gradient_accumulation_steps * world_size;
  config.dtype = options.dtype;
  config.optimizer = deepscale::OptimizerConfig{
      .lr = options.learning_rate, .betas = {0.9, 0.95}, .weight_decay = options.weight_decay};
  config.zero.stage = options.stage;
  if (options.offloads) config.zero.offload_optimizer.device = deepscale::OffloadDevice::kCpu;
  deepscale::SchedulerConfig& scheduler = config.scheduler;
  scheduler.warmup_num_steps = options.warmup_steps;
  scheduler.warmup_max_lr = options.learning_rate;
  scheduler.total_num_steps = std::max(steps, options.warmup_steps + 1);
  scheduler.cos_min_ratio = kSmallestRate;
  if (options.schedule == "cosine") {
    scheduler.kind = deepscale::SchedulerKind::kWarmupCosineLr;
  } else if (options.schedule == "linear") {
    scheduler.kind = deepscale::SchedulerKind::kWarmupDecayLr;
  } else if (options.warmup_steps > 0) {
    scheduler.kind = deepscale::SchedulerKind::kWarmupLr;
  }
  return config;
}

std::shared_ptr<deepscale::LanguageModel> load_model(const Options& options) {
  deepscale::ModelConfig config = deepscale::read_model_config(options.model_path);
  if (options.max_sequence_length > config.max_positions) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--max_seq_len {} is more than the {} positions of {}",
                            options.max_sequence_length, config.max_positions, options.model_path));
  }
  if (options.dropout)
    config.dropout = config.attention_dropout = config.embedding_dropout = *options.dropout;
  const auto model = deepscale::language_model_from_pretrained(options.model_path, config);
  if (options.lora_rank > 0) {
    deepscale::add_lora(
        *model, {.rank = options.lora_rank, .alpha = options.lora_alpha, .dropout = options.lora_dropout},
        options.lora_layers);
  }
  if (options.base_bits != 16) {
    deepscale::quantize_base(*model, {.bits = options.base_bits, .group_size = options.group_size});
  }
  if (options.trains_lora_only) deepscale::only_optimize_lora(*model);
  return model;
}

// All that transformers needs to load the result, tokenizer included.
void save(const Options& options, deepscale::LanguageModel& model, bool writes) {
  const std::filesystem::path output = options.output_dir;
  deepscale::save_pretrained(model, output, {.writes = writes});
  if (options.lora_rank > 0) {
    deepscale::save_lora(model, output / "adapter", {.writes = writes, .base_model = options.model_path});
  }
  if (writes) examples::copy_tokenizer_files(options.model_path, output);
}

void run(const Options& options) {
  const auto environment = deepscale::Environment::of_process();
  const auto layout = deepscale::WorldLayout::from_environment(environment);
  examples::share_cores(layout, environment);
  const auto tokenizer = deepscale::Tokenizer::from_pretrained(options.model_path);
  torch::manual_seed(options.seed);
  const auto model = load_model(options);
  const auto& end_tokens = model->config().end_tokens;
  const ReadOptions reading{.max_tokens = options.max_sequence_length,
                            .end_token = end_tokens.empty() ? -1 : end_tokens.front()};
  std::vector<Sample> training = read_samples(options.data_path, tokenizer, reading);
  const std::vector<Sample> evaluation = options.eval_path.empty()
                                             ? split_off_evaluation(training)
                                             : read_samples(options.eval_path, tokenizer, reading);
  const auto samples_of_step =
      options.train_batch_size * options.gradient_accumulation_steps * layout.world_size;
  const auto steps = options.epochs * (static_cast<std::int64_t>(training.size()) / samples_of_step + 1);
  const auto engine = deepscale::initialize(
      std::make_shared<deepscale::NextTokenLoss>(model),
      make_config(options, layout.world_size, options.steps_limit > 0 ? options.steps_limit : steps),
      deepscale::join_job());
  torch::manual_seed(options.seed + static_cast<std::uint64_t>(engine->rank()));  // dropout of its own
  if (engine->rank() == 0) {
    fmt::print("Training a {} model on {} samples, evaluating on {}; ranks: {} on {}, {}, ZeRO stage {}\n",
               deepscale::architecture_name(model->config().architecture), training.size(), evaluation.size(),
               engine->world_size(), engine->device().str(), deepscale::dtype_name(options.dtype),
               options.stage);
  }
  Trainer(*engine, model->config(), options).run(training, evaluation);
  if (!options.output_dir.empty()) save(options, *model, engine->rank() == 0);
}

}  // namespace
}  // namespace sft

int main(int argc, char** argv) {
  return examples::run_program("sft", [&] {
    if (const auto options = sft::parse_options(argc, argv)) sft::run(*options);
  });
}
