// The prompts as tokens, and what was generated as text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/zero_inference/options.h"
#include "runtime/pretrained/model_config.h"
#include "runtime/tokenizer/tokenizer.h"

namespace zero_inference {

class Prompts {
 public:
  // All prompts of the job, the same on every rank: the user's, in turn, cut to --prompt-len; or DeepSpeed's
  // own, repeated to that length; or random tokens where the model's folder has no tokenizer.json.
  Prompts(const Options& options, const deepscale::ModelConfig& config);

  const std::vector<std::vector<std::int32_t>>& tokens() const { return tokens_; }
  // Numbers where there is no tokenizer.
  std::string text(std::span<const std::int32_t> tokens) const;

 private:
  std::optional<deepscale::Tokenizer> tokenizer_;
  std::vector<std::vector<std::int32_t>> tokens_;
};

}  // namespace zero_inference
