// The regular expressions of tokenizer.json files: the part of the language that published tokenizers use.
//
//   alternatives, groups (...), (?:...), (?i:...); lookahead (?=...) and (?!...); classes [...] with ranges,
//   [^...], \s \S \d \D \w \W \p{L} \p{N} \p{M} \p{P} (also negated, \P{L}), \r \n \t, any escaped sign; . ^
//   $; repeats * + ? {m} {m,} {m,n}, also lazy (*?) and possessive (++).
//
// Matching backtracks, alternatives in their order, as Oniguruma does. A match that takes a million
// steps and more is given up as an Error(kInvalidArgument), so that no pattern hangs its user.
//
// Immutable once made: any thread may match.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deepscale {

class Pattern {
 public:
  // Error(kUnsupported) for what is not above, kInvalidArgument for what is no expression; both cite it.
  explicit Pattern(std::string_view expression);
  // A text that is matched as it stands.
  static Pattern of_text(std::string_view text);

  // Begin and end of the leftmost matches that do not overlap, in order; empty matches are left out.
  std::vector<std::pair<std::size_t, std::size_t>> find_all(std::u32string_view text) const;

  struct Node;

 private:
  Pattern() = default;

  std::string expression_;
  std::shared_ptr<const Node> root_;
};

}  // namespace deepscale
