#include "examples/sft/options.h"

#include <algorithm>

#include "examples/common/command_line.h"

namespace sft {
namespace {

constexpr std::int64_t kMost = 1 << 20;

std::vector<examples::CommandLine::Option> declarations() {
  return {
      {"model_name_or_path", "DIR",
       "folder of a Llama, Mistral, Phi-3, OPT or GPT-2 model with its tokenizer.json"},
      {"data_path", "FILE", "JSON lines with \"prompt\" and \"response\"", "data/instructions.jsonl"},
      {"eval_path", "FILE",
       "the same, to evaluate on; without it every tenth line of the data is kept for that"},
      {"output_dir", "DIR", "where to save the model, and the adapters if there are any"},
      {"num_train_epochs", "N", "passes over the data", "1"},
      {"steps_limit", "N", "end training after that many optimizer steps; 0: never", "0"},
      {"per_device_train_batch_size", "N", "samples of one rank in one micro step", "16"},
      {"per_device_eval_batch_size", "N", "samples of one rank at a time in evaluation", "16"},
      {"gradient_accumulation_steps", "N", "micro steps of one optimizer step", "1"},
      {"max_seq_len", "N", "tokens of a sample; the response is cut there", "512"},
      {"loss_on_prompt", "", "the prompt's tokens count in the loss, too"},
      {"learning_rate", "X", "at its highest", "1e-4"},
      {"weight_decay", "X", "of AdamW", "0"},
      {"lr_scheduler_type", "NAME", "cosine, linear or constant, after the warm-up", "cosine"},
      {"num_warmup_steps", "N", "optimizer steps until the learning rate is reached", "0"},
      {"dropout", "X", "in place of the model's own; 0 switches it off"},
      {"seed", "N", "of the order of samples, dropout and new adapters", "1234"},
      {"zero_stage", "N", "ZeRO stage, 0 to 3", "0"},
      {"dtype", "TYPE", "fp32, bf16 or fp16", "fp32"},
      {"offload", "", "keep optimizer state in host memory"},
      {"lora_dim", "N", "rank of the adapters; 0: none", "0"},
      {"lora_alpha", "X", "their scale; by default lora_dim, which scales by 1"},
      {"lora_dropout", "X", "of what goes into an adapter", "0"},
      {"lora_module_name", "TEXTS", "comma-separated parts of the names of the layers that get one"},
      {"only_optimize_lora", "", "freeze everything but the adapters"},
      {"quant_bits", "N", "with --only_optimize_lora: 8 or 4 bits for the weights that are frozen", "16"},
      {"group_size", "N", "columns that share a scale, with --quant_bits", "64"},
      {"print_loss", "", "the loss of every micro step"},
  };
}

std::vector<std::string> comma_separated(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

void read_lora(const examples::CommandLine& line, Options& options) {
  options.lora_rank = line.integer("lora_dim", 0, kMost);
  options.lora_alpha =
      line.has("lora_alpha") ? line.real("lora_alpha", 1e-6, 1e6) : static_cast<double>(options.lora_rank);
  options.lora_dropout = line.real("lora_dropout", 0.0, 0.99);
  options.lora_layers = comma_separated(line.text("lora_module_name"));
  options.trains_lora_only = line.flag("only_optimize_lora");
  if (options.trains_lora_only && options.lora_rank == 0)
    line.refuse("--only_optimize_lora needs --lora_dim");
  options.base_bits = std::stoi(line.choice("quant_bits", {"16", "8", "4"}));
  options.group_size = line.integer("group_size", 1, kMost);
  if (options.base_bits != 16 && !options.trains_lora_only)
    line.refuse("--quant_bits needs --only_optimize_lora: quantised weights cannot be trained");
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  examples::CommandLine line(
      "sft",
      "Fine-tunes a language model on prompts and responses with DeepScale.\n"
      "Start it alone, or on several ranks: deepscale launch --num_gpus 2 sft --deepscale ...",
      declarations());
  if (!line.parse(argc, argv)) return std::nullopt;
  Options options;
  options.model_path = line.required("model_name_or_path");
  options.data_path = line.required("data_path");
  options.eval_path = line.text("eval_path");
  options.output_dir = line.text("output_dir");
  options.epochs = static_cast<int>(line.integer("num_train_epochs", 1, kMost));
  options.steps_limit = line.integer("steps_limit", 0);
  options.train_batch_size = line.integer("per_device_train_batch_size", 1, kMost);
  options.eval_batch_size = line.integer("per_device_eval_batch_size", 1, kMost);
  options.gradient_accumulation_steps = line.integer("gradient_accumulation_steps", 1, kMost);
  options.max_sequence_length = line.integer("max_seq_len", 2, kMost);
  options.counts_prompt = line.flag("loss_on_prompt");
  options.seed = static_cast<std::uint64_t>(line.integer("seed", 0));
  options.learning_rate = line.real("learning_rate", 0.0, 10.0);
  options.weight_decay = line.real("weight_decay", 0.0, 10.0);
  options.schedule = line.choice("lr_scheduler_type", {"cosine", "linear", "constant"});
  options.warmup_steps = line.integer("num_warmup_steps", 0);
  if (line.has("dropout")) options.dropout = line.real("dropout", 0.0, 0.99);
  options.stage = static_cast<int>(line.integer("zero_stage", 0, 3));
  options.dtype = line.dtype("dtype");
  options.offloads = line.flag("offload");
  options.prints_loss = line.flag("print_loss");
  read_lora(line, options);
  return options;
}

}  // namespace sft
