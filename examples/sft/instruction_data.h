// Prompts and responses as the tokens that a language model is trained on.
//
// A file has one JSON object a line, {"prompt": "...", "response": "..."}; empty lines are skipped. A sample
// is the prompt's tokens with the special ones that the tokenizer puts before a text, the response's, and the
// end token.
//
// Blocking; plain values. Error(kNotFound) for a missing file; Error(kInvalidArgument) with file and line for
// a malformed one, and for a prompt that leaves no room for a response.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "runtime/tokenizer/tokenizer.h"

namespace sft {

struct Sample {
  std::vector<std::int64_t> tokens;
  std::int64_t prompt_tokens = 0;
};

struct ReadOptions {
  std::int64_t max_tokens = 512;
  std::int64_t end_token = -1;  // -1: none
};

std::vector<Sample> read_samples(const std::filesystem::path& path, const deepscale::Tokenizer& tokenizer,
                                 const ReadOptions& options);

// Of the tokens that are predicted from those before them, those whose losses count: of the response, or all.
std::int64_t counted_tokens(const Sample& sample, bool counts_prompt);

// Moves every tenth sample to the returned ones; at least one.
std::vector<Sample> split_off_evaluation(std::vector<Sample>& samples);

}  // namespace sft
