// The command line of zero_inference: that of DeepSpeed's run_model.py, and a few options more.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace zero_inference {

struct Options {
  std::filesystem::path model;       // a Hugging Face folder
  bool is_dummy = false;             // random weights in the shape of the folder's config.json
  std::vector<std::string> prompts;  // empty: DeepSpeed's own, or random tokens where there is no tokenizer
  std::int64_t batch_size = 1;       // of all ranks together
  std::int64_t prompt_length = 512;  // tokens; prompts are cut or padded to it, 0: as they are
  std::int64_t generated_length = 32;
  int loops = 3;

  std::string device = "auto";  // "cpu", "cuda"; auto: a GPU where there is one
  bool offloads_to_cpu = false;
  bool offloads_to_disk = false;
  bool offloads_cache = false;
  bool pins_memory = false;
  std::filesystem::path offload_folder;
  int quant_bits = 16;
  std::int64_t group_size = 64;
  int threads = 0;  // 0: the cores of this rank

  bool samples = false;
  double temperature = 1.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  std::uint64_t seed = 0;

  bool profiles = false;
  std::filesystem::path trace;  // a Chrome trace; empty: none
};

// Nothing for --help, which it prints. Error(kInvalidArgument) for anything wrong, with what to write
// instead.
std::optional<Options> parse_options(int argc, const char* const* argv);

}  // namespace zero_inference
