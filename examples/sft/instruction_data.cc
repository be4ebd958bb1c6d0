#include "examples/sft/instruction_data.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/base/error.h"

namespace sft {
namespace {

using deepscale::Error;
using deepscale::ErrorCode;

constexpr std::size_t kEvaluationShare = 10;

std::string text_of(const nlohmann::json& line, const char* key, const std::string& where) {
  const auto found = line.find(key);
  if (found != line.end() && found->is_string()) return found->get<std::string>();
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: no text \"{}\" in it", where, key));
}

nlohmann::json parse_line(const std::string& text, const std::string& where) {
  const nlohmann::json line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (line.is_object()) return line;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: no JSON object; a line is {{\"prompt\": \"...\", \"response\": \"...\"}}", where));
}

// What the tokenizer puts before a text belongs before the prompt; what it puts after one would end it too
// early.
std::vector<std::int64_t> encode_prompt(const deepscale::Tokenizer& tokenizer, const std::string& prompt) {
  const std::vector<std::int64_t> plain = tokenizer.encode(prompt, /*adds_special_tokens=*/false);
  std::vector<std::int64_t> tokens = tokenizer.encode(prompt);
  const auto found = std::search(tokens.begin(), tokens.end(), plain.begin(), plain.end());
  if (!plain.empty() && found != tokens.end()) {
    tokens.resize(static_cast<std::size_t>(found - tokens.begin()) + plain.size());
  }
  return tokens;
}

Sample sample_of(const nlohmann::json& line, const deepscale::Tokenizer& tokenizer,
                 const ReadOptions& options, const std::string& where) {
  const std::string prompt = text_of(line, "prompt", where);
  const std::string response = text_of(line, "response", where);
  Sample sample;
  sample.tokens = encode_prompt(tokenizer, prompt);
  sample.prompt_tokens = static_cast<std::int64_t>(sample.tokens.size());
  if (sample.prompt_tokens >= options.max_tokens) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format(
            "{}: the prompt has {} tokens, and a sample {} at most (--max_seq_len), so no response fits",
            where, sample.prompt_tokens, options.max_tokens));
  }
  const std::vector<std::int64_t> answer = tokenizer.encode(response, /*adds_special_tokens=*/false);
  sample.tokens.insert(sample.tokens.end(), answer.begin(), answer.end());
  if (options.end_token >= 0) sample.tokens.push_back(options.end_token);
  if (static_cast<std::int64_t>(sample.tokens.size()) > options.max_tokens) {
    sample.tokens.resize(static_cast<std::size_t>(options.max_tokens));
  }
  return sample;
}

}  // namespace

std::vector<Sample> read_samples(const std::filesystem::path& path, const deepscale::Tokenizer& tokenizer,
                                 const ReadOptions& options) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("cannot read {}: no such file; examples/sft/make_data.py makes one", path.string()));
  std::vector<Sample> samples;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{}:{}", path.string(), number);
    samples.push_back(sample_of(parse_line(text, where), tokenizer, options, where));
    const Sample& last = samples.back();
    if (static_cast<std::int64_t>(last.tokens.size()) == last.prompt_tokens) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: the response is empty", where));
    }
  }
  if (samples.empty()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: there is no sample in it", path.string()));
  }
  return samples;
}

std::int64_t counted_tokens(const Sample& sample, bool counts_prompt) {
  const std::int64_t first = counts_prompt ? 0 : sample.prompt_tokens;
  return static_cast<std::int64_t>(sample.tokens.size()) - std::max<std::int64_t>(first, 1);
}

std::vector<Sample> split_off_evaluation(std::vector<Sample>& samples) {
  std::vector<Sample> training, evaluation;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const bool is_kept = i % kEvaluationShare == kEvaluationShare - 1;
    (is_kept ? evaluation : training).push_back(std::move(samples[i]));
  }
  if (evaluation.empty()) evaluation.push_back(training.back());
  samples = std::move(training);
  return evaluation;
}

}  // namespace sft
