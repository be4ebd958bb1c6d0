#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "runtime/tokenizer/byte_letters.h"
#include "runtime/tokenizer/pattern.h"
#include "runtime/tokenizer/step_fields.h"
#include "runtime/tokenizer/steps.h"
#include "runtime/tokenizer/unicode.h"

namespace deepscale {
namespace {

using Pieces = std::vector<TextPiece>;

constexpr const char* kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// What becomes of the parts that a split finds.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

SplitBehavior read_behavior(const ConfigFields& fields) {
  static const std::map<std::string, SplitBehavior> known = {
      {"removed", SplitBehavior::kRemoved},
      {"isolated", SplitBehavior::kIsolated},
      {"mergedwithprevious", SplitBehavior::kMergedWithPrevious},
      {"mergedwithnext", SplitBehavior::kMergedWithNext},
      {"contiguous", SplitBehavior::kContiguous}};
  std::string name;
  for (const char letter : fields.text("behavior", "Isolated")) {
    if (letter != '_') name += static_cast<char>(to_lower(static_cast<unsigned char>(letter)));
  }
  const auto found = known.find(name);
  if (found == known.end()) fields.unsupported("behavior", fmt::format("no behaviour '{}' here", name));
  return found->second;
}

struct Part {
  std::size_t begin, end;
  bool is_match;
};

std::vector<Part> parts_of(const Pattern& pattern, std::u32string_view text, bool inverts) {
  std::vector<Part> parts;
  std::size_t at = 0;
  for (const auto& [begin, end] : pattern.find_all(text)) {
    if (begin > at) parts.push_back({at, begin, inverts});
    parts.push_back({begin, end, !inverts});
    at = end;
  }
  if (at < text.size()) parts.push_back({at, text.size(), inverts});
  return parts;
}

std::vector<Part> arranged(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Part> result;
  bool joins_next = false;
  for (const Part& part : parts) {
    const bool follows_match = !result.empty() && result.back().is_match;
    switch (behavior) {
      case SplitBehavior::kRemoved:
        if (!part.is_match) result.push_back(part);
        break;
      case SplitBehavior::kIsolated:
        result.push_back(part);
        break;
      case SplitBehavior::kContiguous:
        if (!result.empty() && follows_match == part.is_match) {
          result.back().end = part.end;
        } else {
          result.push_back(part);
        }
        break;
      case SplitBehavior::kMergedWithPrevious:
        if (part.is_match && !result.empty() && !follows_match) {
          result.back() = {result.back().begin, part.end, true};
        } else {
          result.push_back(part);
        }
        break;
      case SplitBehavior::kMergedWithNext:
        if (joins_next && !part.is_match) {
          result.back() = {result.back().begin, part.end, false};
        } else {
          result.push_back(part);
        }
        joins_next = part.is_match;
        break;
    }
  }
  return result;
}

PreTokenizer splitter(Pattern pattern, SplitBehavior behavior, bool inverts = false) {
  return [pattern = std::move(pattern), behavior, inverts](const Pieces& pieces) {
    Pieces result;
    for (const TextPiece& piece : pieces) {
      const std::u32string text = decode_utf8(piece.text);
      for (const Part& part : arranged(parts_of(pattern, text, inverts), behavior)) {
        result.push_back({encode_utf8(std::u32string_view(text).substr(part.begin, part.end - part.begin)),
                          piece.begins_text && part.begin == 0});
      }
    }
    return result;
  };
}

PreTokenizer in_turn(std::vector<PreTokenizer> steps) {
  return [steps = std::move(steps)](Pieces pieces) {
    for (const PreTokenizer& step : steps) pieces = step(std::move(pieces));
    return pieces;
  };
}

PreTokenizer for_each_text(std::function<std::string(const std::string&)> change) {
  return [change = std::move(change)](Pieces pieces) {
    for (TextPiece& piece : pieces) piece.text = change(piece.text);
    return pieces;
  };
}

PreTokenizer make_byte_level(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  std::vector<PreTokenizer> steps;
  if (fields.boolean("add_prefix_space", true)) {
    steps.push_back(for_each_text(
        [](const std::string& text) { return text.empty() || text.front() == ' ' ? text : " " + text; }));
  }
  if (fields.boolean("use_regex", true))
    steps.push_back(splitter(Pattern(kGpt2Expression), SplitBehavior::kIsolated));
  steps.push_back(for_each_text([](const std::string& text) { return bytes_to_letters(text); }));
  return in_turn(std::move(steps));
}

PreTokenizer make_split(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  bool is_regex = false;
  const std::string text = read_pattern_text(json, where, is_regex);
  return splitter(is_regex ? Pattern(text) : Pattern::of_text(text), read_behavior(fields),
                  fields.boolean("invert", false));
}

PreTokenizer make_bert(const nlohmann::json&, const std::string&) {
  return in_turn({splitter(Pattern(R"(\s)"), SplitBehavior::kRemoved),
                  splitter(Pattern(R"([\p{P}!-/:-@\[-`{-~])"), SplitBehavior::kIsolated)});
}

PreTokenizer make_digits(const nlohmann::json& json, const std::string& where) {
  const bool is_each = ConfigFields(json, where).boolean("individual_digits", false);
  return splitter(Pattern(R"(\p{N})"), is_each ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

PreTokenizer make_punctuation(const nlohmann::json& json, const std::string& where) {
  return splitter(Pattern(R"([\p{P}!-/:-@\[-`{-~])"), read_behavior(ConfigFields(json, where)));
}

PreTokenizer make_white_space(const nlohmann::json&, const std::string&) {
  return splitter(Pattern(R"(\w+|[^\w\s]+)"), SplitBehavior::kRemoved, /*inverts=*/true);
}

PreTokenizer make_white_space_split(const nlohmann::json&, const std::string&) {
  return splitter(Pattern(R"(\s)"), SplitBehavior::kRemoved);
}

PreTokenizer make_metaspace(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  const std::string sign = fields.text("replacement", kMetaspace);
  // Older files say only whether a space is prepended.
  const std::string scheme =
      fields.text("prepend_scheme", fields.boolean("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "never" && scheme != "first") {
    fields.unsupported("prepend_scheme", fmt::format("no scheme '{}' here", scheme));
  }
  if (sign.empty()) fields.fail("replacement", "empty");
  const PreTokenizer prepend = [sign, scheme](Pieces pieces) {
    for (TextPiece& piece : pieces) {
      piece.text = replace_all(piece.text, " ", sign);
      const bool is_asked = scheme == "always" || (scheme == "first" && piece.begins_text);
      if (is_asked && piece.text.compare(0, sign.size(), sign) != 0) piece.text = sign + piece.text;
    }
    return pieces;
  };
  if (!fields.boolean("split", true)) return prepend;
  return in_turn({prepend, splitter(Pattern::of_text(sign), SplitBehavior::kMergedWithNext)});
}

PreTokenizer make_one(const nlohmann::json& json, const std::string& where);

PreTokenizer make_sequence(const nlohmann::json& json, const std::string& where) {
  return in_turn(make_steps<PreTokenizer>(json, "pretokenizers", where, &make_one));
}

PreTokenizer make_one(const nlohmann::json& json, const std::string& where) {
  static const StepMakers<PreTokenizer> makers = {{"BertPreTokenizer", &make_bert},
                                                  {"ByteLevel", &make_byte_level},
                                                  {"Digits", &make_digits},
                                                  {"Metaspace", &make_metaspace},
                                                  {"Punctuation", &make_punctuation},
                                                  {"Sequence", &make_sequence},
                                                  {"Split", &make_split},
                                                  {"Whitespace", &make_white_space},
                                                  {"WhitespaceSplit", &make_white_space_split}};
  return make_step(json, where, makers);
}

}  // namespace

PreTokenizer make_pre_tokenizer(const nlohmann::json& json, const std::string& where) {
  if (json.is_null()) return [](Pieces pieces) { return pieces; };
  return make_one(json, where);
}

}  // namespace deepscale
