#include "examples/bert_pretraining/options.h"

#include <filesystem>

#include "examples/common/command_line.h"

namespace bert_pretraining {
namespace {

constexpr std::int64_t kMost = 1 << 20;

std::vector<examples::CommandLine::Option> declarations() {
  return {
      {"checkpoint_dir", "DIR", "where checkpoints go; what is there already is gone on from"},
      {"data_path", "PATH", "a text file, or a folder whose *.txt files are read", "data/bert"},
      {"tokenizer_path", "DIR", "folder with a tokenizer.json that has the token [MASK]", "data/bert"},
      {"output_dir", "DIR", "where to save the model for transformers in the end"},
      {"num_layers", "N", "layers of the encoder", "6"},
      {"num_heads", "N", "attention heads", "8"},
      {"h_dim", "N", "hidden size", "256"},
      {"ff_dim", "N", "size within a block", "512"},
      {"dropout", "X", "in training", "0.1"},
      {"max_seq_length", "N", "tokens of a sample", "512"},
      {"mask_prob", "X", "share of the tokens to fill in", "0.15"},
      {"batch_size", "N", "samples of one rank in one step", "8"},
      {"num_iterations", "N", "steps in all, those before a resume included", "10000"},
      {"checkpoint_every", "N", "steps between two checkpoints", "1000"},
      {"log_every", "N", "steps between two lines of progress", "10"},
      {"learning_rate", "X", "of Adam", "1e-4"},
      {"stage", "N", "ZeRO stage, 0 to 3", "1"},
      {"dtype", "TYPE", "fp32, bf16 or fp16", "fp32"},
      {"deepscale_config", "FILE",
       "a ds_config.json; its \"auto\" stands for the options above, its other values win"},
      {"seed", "N", "of the weights, the order of samples and the masks", "42"},
  };
}

void require_data(const examples::CommandLine& line, const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return;
  line.refuse("--data_path: there is no " + path + "; examples/bert_pretraining/make_data.py makes some");
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  examples::CommandLine line(
      "bert_pretraining",
      "Trains a BERT from nothing to fill in masked words of text files, with DeepScale.\n"
      "Start it alone, or on several ranks: deepscale launch --num_gpus 2 bert_pretraining ...",
      declarations());
  if (!line.parse(argc, argv)) return std::nullopt;
  Options options;
  options.checkpoint_dir = line.required("checkpoint_dir");
  options.data_path = line.required("data_path");
  options.tokenizer_path = line.required("tokenizer_path");
  require_data(line, options.data_path);
  options.output_dir = line.text("output_dir");
  options.config_path = line.text("deepscale_config");
  options.layers = line.integer("num_layers", 1, kMost);
  options.heads = line.integer("num_heads", 1, kMost);
  options.hidden_size = line.integer("h_dim", 1, kMost);
  options.inner_size = line.integer("ff_dim", 1, kMost);
  options.dropout = line.real("dropout", 0.0, 0.99);
  options.sequence_length = line.integer("max_seq_length", 8, kMost);
  options.mask_probability = line.real("mask_prob", 0.001, 1.0);
  options.batch_size = line.integer("batch_size", 1, kMost);
  options.iterations = line.integer("num_iterations", 1);
  options.checkpoint_every = line.integer("checkpoint_every", 1);
  options.log_every = line.integer("log_every", 1);
  options.learning_rate = line.real("learning_rate", 0.0, 10.0);
  options.stage = static_cast<int>(line.integer("stage", 0, 3));
  options.dtype = line.dtype("dtype");
  options.seed = static_cast<std::uint64_t>(line.integer("seed", 0));
  if (options.hidden_size % options.heads != 0) line.refuse("--num_heads must divide --h_dim");
  return options;
}

}  // namespace bert_pretraining
