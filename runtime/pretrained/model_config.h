// What a Hugging Face config.json says about a model, typed.
//
// Covers the architectures that runtime/models has: Llama (and Mistral, which is Llama with a window), Phi-3,
// OPT, GPT-2, BERT. Keys that do not change what the model computes are ignored; a value that would change it
// and that we do not compute (another activation, another kind of rotary scaling) is Error(kUnsupported) with
// the key. Both spellings of transformers 4 and 5 are read ("rope_theta" and "rope_parameters").
//
// Plain values; any thread. Failures: kNotFound without the file; kInvalidArgument for a value of the wrong
// type or out of range, naming file and key; kUnsupported as above.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace deepscale {

enum class Architecture { kLlama, kPhi3, kOpt, kGpt2, kBert };
enum class Activation { kRelu, kGelu, kGeluTanh, kSilu };

// Rotary position embedding (Su et al., 2021) and how it is stretched beyond the trained length.
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3, kLong };

  double theta = 10000.0;
  double rotary_fraction = 1.0;  // of a head's elements
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_frequency_factor = 1.0;   // llama3
  double high_frequency_factor = 4.0;  // llama3
  std::int64_t original_max_positions = 0;
  std::vector<double> short_factors, long_factors;  // longrope
  double attention_factor = 0.0;                    // longrope; 0: derived
};

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  std::string model_type;                  // as the file has it
  std::vector<std::string> heads_in_file;  // "architectures"

  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t layers = 0;
  std::int64_t attention_heads = 0;
  std::int64_t key_value_heads = 0;
  std::int64_t head_size = 0;
  std::int64_t max_positions = 0;
  std::int64_t sliding_window = 0;  // keys that a query sees; 0: all before it
  Activation activation = Activation::kSilu;
  double norm_epsilon = 1e-5;
  double initializer_range = 0.02;
  bool ties_embeddings = false;
  bool has_attention_bias = false;
  bool has_mlp_bias = false;
  RopeConfig rope;

  // In training.
  double dropout = 0.0;
  double attention_dropout = 0.0;
  double embedding_dropout = 0.0;

  // OPT.
  std::int64_t word_embedding_size = 0;
  bool norm_before_block = true;
  bool has_final_norm = true;
  // BERT.
  std::int64_t token_types = 0;

  std::int64_t pad_token = -1;  // -1: none
  std::int64_t begin_token = -1;
  std::vector<std::int64_t> end_tokens;

  std::string source;  // the file's text
};

// `name` is how messages call the text.
ModelConfig parse_model_config(std::string_view text, std::string_view name);
// DIRECTORY/config.json.
ModelConfig read_model_config(const std::filesystem::path& directory);

const char* architecture_name(Architecture architecture);  // "Llama", "Phi-3", ...

// Radians per position of each pair of elements, `head_size * rotary_fraction / 2` of them, for a sequence of
// that length. The factor is for the cosines and sines (longrope).
struct RopeFrequencies {
  std::vector<float> radians_per_position;
  double attention_factor = 1.0;
};
RopeFrequencies rope_frequencies(const ModelConfig& config, std::int64_t sequence_length);

// The rotations of a model's heads: element i of a head turns with element i + pairs. No pairs where the
// model has no rotary embedding.
struct RopeTable {
  std::int64_t pairs = 0;
  std::vector<float> cosines, sines;  // [positions, pairs]
};
RopeTable rope_table(const ModelConfig& config, std::int64_t positions);

}  // namespace deepscale
