#include "runtime/tokenizer/pattern.h"

#include <fmt/core.h>

#include "comm/base/error.h"
#include "runtime/tokenizer/pattern_node.h"
#include "runtime/tokenizer/unicode.h"

namespace deepscale {
namespace {

using Node = Pattern::Node;
using Next = std::function<bool(std::size_t)>;  // whether what comes after matches from there

constexpr std::size_t kMaxSteps = 1'000'000;
constexpr std::size_t kMaxStepsPerCharacter = 16;
constexpr int kMaxDepth = 500;  // a thread of Windows has 1 MiB of stack

// One attempt to match at one place.
class Attempt {
 public:
  explicit Attempt(std::u32string_view text)
      : text_(text), max_steps_(kMaxSteps + kMaxStepsPerCharacter * text.size()) {}

  // The end of the match that begins at `begin`.
  std::optional<std::size_t> run(const Node& root, std::size_t begin) {
    std::optional<std::size_t> end;
    match(root, begin, [&](std::size_t at) {
      end = at;
      return true;
    });
    return end;
  }
  bool gave_up() const { return gave_up_; }

 private:
  bool match(const Node& node, std::size_t at, const Next& next) {
    if (gave_up_ || ++steps_ > max_steps_ || depth_ >= kMaxDepth) {
      gave_up_ = true;
      return false;
    }
    ++depth_;
    const bool matched = match_kind(node, at, next);
    --depth_;
    return matched;
  }

  bool match_kind(const Node& node, std::size_t at, const Next& next) {
    switch (node.kind) {
      case Node::Kind::kCharacter:
        return at < text_.size() && node.accepts(text_[at]) && next(at + 1);
      case Node::Kind::kSequence:
        return match_sequence(node, 0, at, next);
      case Node::Kind::kAlternatives:
        for (const auto& child : node.children) {
          if (match(*child, at, next)) return true;
        }
        return false;
      case Node::Kind::kRepeat:
        if (node.children.front()->kind == Node::Kind::kCharacter) return repeat_character(node, at, next);
        return repeat(node, 0, at, next);
      case Node::Kind::kLookahead: {
        const bool is_there = match(*node.children.front(), at, [](std::size_t) { return true; });
        return is_there != node.is_negated && next(at);
      }
      case Node::Kind::kBegin:
        return at == 0 && next(at);
      case Node::Kind::kEnd:
        return at == text_.size() && next(at);
    }
    return false;
  }

  bool match_sequence(const Node& node, std::size_t index, std::size_t at, const Next& next) {
    if (index == node.children.size()) return next(at);
    return match(*node.children[index], at,
                 [&, index](std::size_t after) { return match_sequence(node, index + 1, after, next); });
  }

  // Without recursion, since words may be long.
  bool repeat_character(const Node& node, std::size_t at, const Next& next) {
    const Node& character = *node.children.front();
    const auto least = static_cast<std::size_t>(node.least);
    const auto most = static_cast<std::size_t>(node.most);
    const auto accepts = [&](std::size_t count) {
      return count < most && at + count < text_.size() && character.accepts(text_[at + count]);
    };
    std::size_t count = 0;
    const bool is_lazy = node.mode == Node::Mode::kLazy;
    while (accepts(count) && (!is_lazy || count < least)) ++count;
    if (count < least) return false;
    if (is_lazy) {
      for (; !next(at + count); ++count) {
        if (!accepts(count)) return false;
      }
      return true;
    }
    if (node.mode == Node::Mode::kPossessive) return next(at + count);
    for (;; --count) {
      if (next(at + count)) return true;
      if (count == least || gave_up_) return false;
    }
  }

  bool repeat(const Node& node, int count, std::size_t at, const Next& next) {
    const auto once_more = [&] {
      if (count == node.most) return false;
      return match(*node.children.front(), at, [&](std::size_t after) {
        return (after != at || count < node.least) && repeat(node, count + 1, after, next);
      });
    };
    if (count < node.least) return once_more();
    if (node.mode == Node::Mode::kLazy) return next(at) || once_more();
    if (node.mode == Node::Mode::kPossessive) return next(longest(node, count, at));
    return once_more() || next(at);
  }

  std::size_t longest(const Node& node, int count, std::size_t at) {
    for (; count < node.most; ++count) {
      std::size_t end = at;
      const bool matched = match(*node.children.front(), at, [&](std::size_t after) {
        end = after;
        return true;
      });
      if (!matched || end == at) break;
      at = end;
    }
    return at;
  }

  const std::u32string_view text_;
  const std::size_t max_steps_;
  std::size_t steps_ = 0;
  int depth_ = 0;
  bool gave_up_ = false;
};

}  // namespace

Pattern::Pattern(std::string_view expression) : expression_(expression), root_(parse_pattern(expression)) {}

Pattern Pattern::of_text(std::string_view text) {
  auto root = std::make_shared<Node>();
  for (const char32_t point : decode_utf8(text)) {
    auto node = std::make_shared<Node>();
    node->kind = Node::Kind::kCharacter;
    node->accepts = [point](char32_t other) { return other == point; };
    root->children.push_back(std::move(node));
  }
  Pattern pattern;
  pattern.expression_ = text;
  pattern.root_ = std::move(root);
  return pattern;
}

std::vector<std::pair<std::size_t, std::size_t>> Pattern::find_all(std::u32string_view text) const {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  for (std::size_t at = 0; at < text.size();) {
    Attempt attempt(text);
    const std::optional<std::size_t> end = attempt.run(*root_, at);
    if (attempt.gave_up()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the expression \"{}\" takes too long on this text", expression_));
    }
    if (end && *end > at) found.emplace_back(at, *end);
    at = end && *end > at ? *end : at + 1;
  }
  return found;
}

}  // namespace deepscale
