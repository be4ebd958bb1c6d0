// The tokens of one step of a decoder, at their places in their sequences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/inference/decoder.h"

namespace deepscale {

class StepTokens {
 public:
  struct Token {
    std::int64_t sequence = 0;
    std::int64_t position = 0;
    std::int64_t row = 0;  // of its sequence among those of the step, in the order of first occurrence
    std::int32_t id = 0;
  };

  // Error(kInvalidArgument) for more positions than the model has.
  StepTokens(const ModelConfig& config, const DecoderOptions& options);

  // The next step. Errors as of Decoder, before anything changes.
  void place(std::span<const DecoderToken> tokens);
  // All sequences begin anew.
  void reset();

  std::size_t size() const { return tokens_.size(); }
  const Token& operator[](std::size_t index) const { return tokens_[index]; }
  const std::vector<std::size_t>& last_of_rows() const { return last_; }  // the last token of each row
  std::int64_t positions() const { return positions_; }

 private:
  std::int64_t vocab_;
  std::int64_t positions_;
  std::vector<std::int64_t> lengths_;  // positions seen, by sequence
  std::vector<Token> tokens_;
  std::vector<std::size_t> last_;
};

}  // namespace deepscale
