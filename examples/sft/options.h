// The command line of sft.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/base/dtype.h"

namespace sft {

struct Options {
  std::string model_path;
  std::string data_path;
  std::string eval_path;   // empty: every tenth line of data_path
  std::string output_dir;  // empty: nothing is saved

  int epochs = 1;
  std::int64_t steps_limit = 0;        // optimizer steps; 0: none
  std::int64_t train_batch_size = 16;  // of one rank, in one micro step
  std::int64_t eval_batch_size = 16;
  std::int64_t gradient_accumulation_steps = 1;
  std::int64_t max_sequence_length = 512;
  bool counts_prompt = false;
  std::uint64_t seed = 1234;

  double learning_rate = 0.0;
  double weight_decay = 0.0;
  std::string schedule;  // "cosine", "linear", "constant"
  std::int64_t warmup_steps = 0;
  std::optional<double> dropout;  // empty: what the model's configuration says

  int stage = 0;
  deepscale::DType dtype = deepscale::DType::kFloat32;
  bool offloads = false;

  std::int64_t lora_rank = 0;  // 0: no adapters
  double lora_alpha = 0.0;
  double lora_dropout = 0.0;
  std::vector<std::string> lora_layers;  // parts of names; empty: all layers of the blocks
  bool trains_lora_only = false;
  int base_bits = 16;  // 8 or 4: the base is quantised
  std::int64_t group_size = 64;

  bool prints_loss = false;
};

// Nothing when help was asked for, and printed. Error(kInvalidArgument) names the option and what it takes.
std::optional<Options> parse_options(int argc, const char* const* argv);

}  // namespace sft
