#include "examples/zero_inference/prompts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <random>

#include "comm/base/error.h"

namespace zero_inference {

using deepscale::Error;
using deepscale::ErrorCode;

namespace {

constexpr const char* kPromptOfRunModel = "Paris is the capital city of";

std::vector<std::int32_t> encode(const deepscale::Tokenizer& tokenizer, const std::string& text,
                                 const deepscale::ModelConfig& config) {
  std::vector<std::int32_t> tokens;
  for (const std::int64_t token : tokenizer.encode(text)) {
    if (token >= config.vocab_size)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the tokenizer gives token {} for \"{}\", and config.json has a vocabulary of "
                              "{}: the two are of "
                              "different models",
                              token, text, config.vocab_size));
    tokens.push_back(static_cast<std::int32_t>(token));
  }
  if (tokens.empty())
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the prompt \"{}\" has no tokens: give it some text", text));
  return tokens;
}

std::vector<std::int32_t> random_tokens(std::int64_t count, std::int64_t vocab_size,
                                        std::mt19937_64& random) {
  std::uniform_int_distribution<std::int32_t> token(0, static_cast<std::int32_t>(vocab_size) - 1);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(std::max<std::int64_t>(count, 1)));
  for (std::int32_t& id : tokens) id = token(random);
  return tokens;
}

}  // namespace

Prompts::Prompts(const Options& options, const deepscale::ModelConfig& config) {
  if (std::filesystem::exists(options.model / "tokenizer.json"))
    tokenizer_ = deepscale::Tokenizer::from_pretrained(options.model);
  else if (!options.prompts.empty())
    throw Error(ErrorCode::kNotFound,
                fmt::format("--prompt needs the tokenizer of the model, and there is no {}",
                            (options.model / "tokenizer.json").string()));
  std::mt19937_64 random(options.seed);
  const auto length = static_cast<std::size_t>(options.prompt_length);
  for (std::int64_t i = 0; i < options.batch_size; ++i) {
    std::vector<std::int32_t>& prompt = tokens_.emplace_back();
    if (!options.prompts.empty()) {
      prompt =
          encode(*tokenizer_, options.prompts[static_cast<std::size_t>(i) % options.prompts.size()], config);
      if (length > 0 && prompt.size() > length) prompt.resize(length);
    } else if (tokenizer_) {
      const std::vector<std::int32_t> text = encode(*tokenizer_, kPromptOfRunModel, config);
      for (std::size_t k = 0; k < (length > 0 ? length : text.size()); ++k)
        prompt.push_back(text[k % text.size()]);
    } else {
      prompt = random_tokens(options.prompt_length, config.vocab_size, random);
    }
  }
}

std::string Prompts::text(std::span<const std::int32_t> tokens) const {
  if (!tokenizer_) return fmt::format("{}", fmt::join(tokens, " "));
  return tokenizer_->decode({tokens.begin(), tokens.end()});
}

}  // namespace zero_inference
