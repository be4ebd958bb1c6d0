#include <fmt/core.h>

#include "comm/base/error.h"
#include "runtime/tokenizer/pattern_node.h"
#include "runtime/tokenizer/unicode.h"

namespace deepscale {
namespace {

using Node = Pattern::Node;
using NodePointer = std::shared_ptr<const Node>;
using Accepts = std::function<bool(char32_t)>;

constexpr int kMaxDepth = 50;
constexpr int kMaxRepeat = 1000;

bool is_word(char32_t point) {
  return is_letter(point) || is_mark(point) || is_decimal_digit(point) || point == '_';
}

NodePointer character(Accepts accepts) {
  auto node = std::make_shared<Node>();
  node->kind = Node::Kind::kCharacter;
  node->accepts = std::move(accepts);
  return node;
}

NodePointer with_children(Node::Kind kind, std::vector<NodePointer> children) {
  if (children.size() == 1) return children.front();
  auto node = std::make_shared<Node>();
  node->kind = kind;
  node->children = std::move(children);
  return node;
}

Accepts negated(Accepts accepts) {
  return [accepts = std::move(accepts)](char32_t point) { return !accepts(point); };
}

class Parser {
 public:
  explicit Parser(std::string_view expression) : expression_(expression), text_(decode_utf8(expression)) {}

  NodePointer parse() {
    NodePointer node = alternatives();
    if (!at_end()) fail("an unmatched ')'");
    return node;
  }

 private:
  bool at_end() const { return next_ == text_.size(); }
  bool sees(std::u32string_view what) const {
    return std::u32string_view(text_).substr(next_, what.size()) == what;
  }
  bool take(std::u32string_view what) {
    if (!sees(what)) return false;
    next_ += what.size();
    return true;
  }
  char32_t take_any() {
    if (at_end()) fail("an unfinished end");
    return text_[next_++];
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the expression \"{}\" has {} at character {}", expression_, what, next_));
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("the expression \"{}\" has {} at character {}, which this tokenizer does not know",
                    expression_, what, next_));
  }

  NodePointer alternatives() {
    if (++depth_ > kMaxDepth) fail("too many groups in one another");
    std::vector<NodePointer> all{sequence()};
    while (take(U"|")) all.push_back(sequence());
    --depth_;
    return with_children(Node::Kind::kAlternatives, std::move(all));
  }

  NodePointer sequence() {
    std::vector<NodePointer> parts;
    while (!at_end() && !sees(U"|") && !sees(U")")) parts.push_back(repeated(atom()));
    return with_children(Node::Kind::kSequence, std::move(parts));
  }

  NodePointer repeated(NodePointer part) {
    auto node = std::make_shared<Node>();
    node->kind = Node::Kind::kRepeat;
    if (take(U"*")) {
      node->least = 0, node->most = kUnlimited;
    } else if (take(U"+")) {
      node->least = 1, node->most = kUnlimited;
    } else if (take(U"?")) {
      node->least = 0, node->most = 1;
    } else if (take(U"{")) {
      read_counts(*node);
    } else {
      return part;
    }
    if (take(U"?")) node->mode = Node::Mode::kLazy;
    if (take(U"+")) node->mode = Node::Mode::kPossessive;
    if (sees(U"*") || sees(U"+") || sees(U"?") || sees(U"{")) unsupported("a repeated repeat");
    node->children = {std::move(part)};
    return node;
  }

  void read_counts(Node& node) {
    node.least = number();
    node.most = node.least;
    if (take(U",")) node.most = sees(U"}") ? kUnlimited : number();
    if (!take(U"}") || node.most < node.least) fail("a wrong repeat");
  }

  int number() {
    int value = 0;
    bool has_digit = false;
    while (!at_end() && text_[next_] >= '0' && text_[next_] <= '9') {
      has_digit = true;
      value = value * 10 + static_cast<int>(take_any() - U'0');
      if (value > kMaxRepeat) fail("too large a repeat");
    }
    if (!has_digit) fail("a repeat without a number");
    return value;
  }

  NodePointer atom() {
    if (take(U"(")) return group();
    if (take(U"[")) return character(folded(char_class()));
    if (take(U".")) return character([](char32_t point) { return point != '\n'; });
    if (take(U"^")) return position(Node::Kind::kBegin);
    if (take(U"$")) return position(Node::Kind::kEnd);
    if (sees(U"*") || sees(U"+") || sees(U"?")) fail("a repeat of nothing");
    if (take(U"\\")) return character(folded(escape()));
    return character(folded(exactly(take_any())));
  }

  static NodePointer position(Node::Kind kind) {
    auto node = std::make_shared<Node>();
    node->kind = kind;
    return node;
  }

  NodePointer group() {
    const bool outer = ignores_case_;
    NodePointer inner;
    if (take(U"?=") || sees(U"?!")) {
      auto node = std::make_shared<Node>();
      node->kind = Node::Kind::kLookahead;
      node->is_negated = take(U"?!");
      node->children = {alternatives()};
      inner = node;
    } else {
      if (take(U"?i:")) {
        ignores_case_ = true;
      } else if (!take(U"?:") && sees(U"?")) {
        unsupported("a special group");
      }
      inner = alternatives();
    }
    if (!take(U")")) fail("an unfinished group");
    ignores_case_ = outer;
    return inner;
  }

  // Within (?i:...) both cases of a letter are accepted.
  Accepts folded(Accepts accepts) const {
    if (!ignores_case_) return accepts;
    return [accepts = std::move(accepts)](char32_t point) {
      const bool is_lower = point >= 'a' && point <= 'z';
      return accepts(point) || accepts(to_lower(point)) || (is_lower && accepts(point - 'a' + 'A')) ||
             (point == 0x17F && (accepts('s') || accepts('S')));  // the long s
    };
  }

  static Accepts exactly(char32_t wanted) {
    return [wanted](char32_t point) { return point == wanted; };
  }

  // After a backslash; `what` gets the code point where it stands for one.
  Accepts escape(std::optional<char32_t>* what = nullptr) {
    const char32_t sign = take_any();
    switch (sign) {
      case 's':
        return is_white_space;
      case 'S':
        return negated(is_white_space);
      case 'd':
        return is_decimal_digit;
      case 'D':
        return negated(is_decimal_digit);
      case 'w':
        return is_word;
      case 'W':
        return negated(is_word);
      case 'p':
        return property();
      case 'P':
        return negated(property());
      default:
        break;
    }
    const char32_t point = sign == 'n' ? U'\n' : sign == 'r' ? U'\r' : sign == 't' ? U'\t' : sign;
    const bool is_sign = point < 0x20 || (point < 0x80 && !is_word(point));
    if (!is_sign) unsupported(fmt::format("\\{}", encode_utf8(std::u32string(1, sign))));
    if (what != nullptr) *what = point;
    return exactly(point);
  }

  Accepts property() {
    if (!take(U"{")) unsupported("a property without braces");
    std::string name;
    while (!sees(U"}")) append_utf8(name, take_any());
    take(U"}");
    if (name == "L") return is_letter;
    if (name == "N") return is_number;
    if (name == "Nd") return is_decimal_digit;
    if (name == "M") return is_mark;
    if (name == "Mn") return is_nonspacing_mark;
    if (name == "P") return is_punctuation;
    unsupported(fmt::format("the property {}", name));
  }

  Accepts char_class() {
    const bool is_negated = take(U"^");
    std::vector<Accepts> any;
    bool is_first = true;
    while (is_first || !sees(U"]")) {
      is_first = false;
      if (sees(U"[") || sees(U"&&")) unsupported("a class within a class");
      any.push_back(class_member());
    }
    take(U"]");
    Accepts accepts = [any = std::move(any)](char32_t point) {
      for (const Accepts& one : any) {
        if (one(point)) return true;
      }
      return false;
    };
    return is_negated ? negated(std::move(accepts)) : accepts;
  }

  Accepts class_member() {
    std::optional<char32_t> first;
    Accepts accepts;
    if (take(U"\\")) {
      accepts = escape(&first);
    } else {
      first = take_any();
      accepts = exactly(*first);
    }
    const bool is_range = first && sees(U"-") && next_ + 1 < text_.size() && text_[next_ + 1] != ']';
    if (!is_range) return accepts;
    take(U"-");
    std::optional<char32_t> last;
    if (take(U"\\")) {
      escape(&last);
    } else {
      last = take_any();
    }
    if (!last || *last < *first) fail("a wrong range");
    return [first = *first, last = *last](char32_t point) { return point >= first && point <= last; };
  }

  const std::string expression_;
  const std::u32string text_;
  std::size_t next_ = 0;
  int depth_ = 0;
  bool ignores_case_ = false;
};

}  // namespace

std::shared_ptr<const Pattern::Node> parse_pattern(std::string_view expression) {
  return Parser(expression).parse();
}

}  // namespace deepscale
