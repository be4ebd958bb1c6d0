// Generation of text as tokens: greedy, or sampled with temperature, top-k and top-p.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "runtime/inference/decoder.h"

namespace deepscale {

struct GenerationOptions {
  std::int64_t new_tokens = 32;  // at most, of each sequence
  bool samples = false;          // false: the likeliest token
  double temperature = 1.0;      // > 0
  std::int64_t top_k = 0;        // 0: all
  double top_p = 1.0;            // in (0, 1]
  std::uint64_t seed = 0;
  std::vector<std::int32_t> end_tokens;  // a sequence ends behind one of them; empty: never
  std::function<void()> after_step;      // for progress and profiles
};

struct Generation {
  std::vector<std::vector<std::int32_t>> tokens;  // what was generated, by sequence, end tokens included
  std::chrono::duration<double> prefill{0};       // until the first token of each sequence
  std::chrono::duration<double> decode{0};        // all others
  std::int64_t decoded = 0;                       // tokens after the first ones
};

// The next token of one sequence.
class TokenChooser {
 public:
  // Error(kInvalidArgument) for a temperature or top_p out of range.
  explicit TokenChooser(const GenerationOptions& options);
  std::int32_t choose(std::span<const float> logits);

 private:
  bool samples_;
  double temperature_, top_p_;
  std::int64_t top_k_;
  std::mt19937_64 random_;
};

// The decoder is reset first. Prompts may differ in length and may not be empty; there are at most as many as
// the decoder has sequences. Errors as of Decoder, before anything is computed where prompt and new tokens
// need more positions than it has.
Generation generate(Decoder& decoder, std::span<const std::vector<std::int32_t>> prompts,
                    const GenerationOptions& options);

}  // namespace deepscale
