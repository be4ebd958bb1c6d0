#include "runtime/inference/step_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "comm/base/error.h"

namespace deepscale {

StepTokens::StepTokens(const ModelConfig& config, const DecoderOptions& options)
    : vocab_(config.vocab_size),
      positions_(options.positions == 0 ? config.max_positions : options.positions),
      lengths_(static_cast<std::size_t>(options.sequences), 0) {
  if (positions_ <= config.max_positions) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format(
          "the prompt and what is to be generated need {} positions, and the model has {}: shorten one "
          "of them",
          positions_, config.max_positions));
}

void StepTokens::place(std::span<const DecoderToken> tokens) {
  std::vector<std::int64_t> lengths = lengths_;
  std::vector<std::int64_t> row_of(lengths.size(), -1);
  std::vector<Token> placed;
  std::vector<std::size_t> last;
  for (const auto& [sequence, id] : tokens) {
    if (sequence < 0 || sequence >= static_cast<std::int64_t>(lengths.size()))
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no sequence {}: the cache has {}", sequence, lengths.size()));
    if (id < 0 || id >= vocab_)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no token {}: the model has a vocabulary of {}", id, vocab_));
    std::int64_t& length = lengths[sequence];
    if (length == positions_)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("sequence {} has all the {} positions that its cache has", sequence, length));
    std::int64_t& row = row_of[sequence];
    if (row < 0) {
      row = static_cast<std::int64_t>(last.size());
      last.push_back(0);
    }
    last[row] = placed.size();
    placed.push_back({sequence, length++, row, id});
  }
  lengths_ = std::move(lengths);
  tokens_ = std::move(placed);
  last_ = std::move(last);
}

void StepTokens::reset() {
  std::fill(lengths_.begin(), lengths_.end(), 0);
}

}  // namespace deepscale
