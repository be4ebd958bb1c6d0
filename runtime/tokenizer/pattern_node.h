// A parsed expression. Internal to runtime/tokenizer.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/tokenizer/pattern.h"

namespace deepscale {

inline constexpr int kUnlimited = std::numeric_limits<int>::max();

struct Pattern::Node {
  enum class Kind { kCharacter, kSequence, kAlternatives, kRepeat, kLookahead, kBegin, kEnd };
  enum class Mode { kGreedy, kLazy, kPossessive };

  Kind kind = Kind::kSequence;
  std::function<bool(char32_t)> accepts;  // kCharacter
  std::vector<std::shared_ptr<const Node>>
      children;             // the parts; of the last three kinds but one, a single one
  int least = 1, most = 1;  // kRepeat
  Mode mode = Mode::kGreedy;
  bool is_negated = false;  // kLookahead
};

// The errors are those of Pattern's constructor.
std::shared_ptr<const Pattern::Node> parse_pattern(std::string_view expression);

}  // namespace deepscale
