// The command line of bert_pretraining.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "comm/base/dtype.h"

namespace bert_pretraining {

struct Options {
  std::string data_path;       // a text file, or a folder of them
  std::string tokenizer_path;  // folder with tokenizer.json
  std::string checkpoint_dir;
  std::string config_path;  // a ds_config.json; empty: fp16 or --dtype, Adam, --stage
  std::string output_dir;   // empty: only checkpoints

  std::int64_t layers = 6, heads = 8, inner_size = 512, hidden_size = 256;
  double dropout = 0.1;
  std::int64_t sequence_length = 512;
  double mask_probability = 0.15;

  std::int64_t batch_size = 8;  // of one rank
  std::int64_t iterations = 10'000;
  std::int64_t checkpoint_every = 1'000;
  std::int64_t log_every = 10;
  double learning_rate = 1e-4;
  int stage = 1;
  deepscale::DType dtype = deepscale::DType::kFloat32;
  std::uint64_t seed = 42;
};

// Nothing when help was asked for, and printed. Error(kInvalidArgument) names the option and what it takes.
std::optional<Options> parse_options(int argc, const char* const* argv);

}  // namespace bert_pretraining
