#include "runtime/tokenizer/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/pretrained/config_fields.h"
#include "runtime/tokenizer/unicode.h"

namespace deepscale {
namespace {

bool continues_word(char32_t point) {
  return is_letter(point) || is_mark(point) || is_number(point) || point == '_';
}

// The last character of the text; 0 where it is empty.
char32_t last_of(std::string_view text) {
  std::size_t begin = text.empty() ? 0 : text.size() - 1;
  while (begin > 0 && text.size() - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80)
    --begin;
  const std::u32string points = decode_utf8(text.substr(begin));
  return points.empty() ? 0 : points.back();
}

char32_t first_of(std::string_view text) {
  const std::u32string points = decode_utf8(text.substr(0, utf8_length(text)));
  return points.empty() ? 0 : points.front();
}

std::size_t spaces_before(std::string_view text) {
  const std::u32string points = decode_utf8(text);
  std::size_t count = 0;
  while (count < points.size() && is_white_space(points[points.size() - 1 - count])) ++count;
  return encode_utf8(std::u32string_view(points).substr(points.size() - count)).size();
}

std::size_t spaces_after(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && is_white_space(first_of(text.substr(at)))) at += utf8_length(text.substr(at));
  return at;
}

}  // namespace

AddedTokens::AddedTokens(const nlohmann::json& list, const std::string& where) {
  if (list.is_null()) return;
  if (!list.is_array()) ConfigFields(nlohmann::json::object(), where).fail("added_tokens", "expected a list");
  for (const nlohmann::json& one : list) {
    if (!one.is_object())
      ConfigFields(nlohmann::json::object(), where).fail("added_tokens", "expected objects");
    const ConfigFields fields(one, where);
    AddedToken token{.id = fields.integer("id", -1, 0),
                     .content = fields.text("content", ""),
                     .takes_spaces_before = fields.boolean("lstrip", false),
                     .takes_spaces_after = fields.boolean("rstrip", false),
                     .is_word = fields.boolean("single_word", false),
                     .is_special = fields.boolean("special", false)};
    token.is_normalized = fields.boolean("normalized", !token.is_special);
    if (token.id < 0) fields.fail("id", "missing");
    if (token.content.empty()) continue;
    by_first_byte_[token.content.front()].push_back(all_.size());
    all_.push_back(std::move(token));
  }
  for (auto& [first, indices] : by_first_byte_) {
    std::stable_sort(indices.begin(), indices.end(), [this](std::size_t a, std::size_t b) {
      return all_[a].content.size() > all_[b].content.size();
    });
  }
}

const AddedToken* AddedTokens::longest_at(std::string_view text, std::size_t at, bool is_normalized) const {
  const auto candidates = by_first_byte_.find(text[at]);
  if (candidates == by_first_byte_.end()) return nullptr;
  for (const std::size_t index : candidates->second) {
    const AddedToken& token = all_[index];
    if (token.is_normalized == is_normalized && text.compare(at, token.content.size(), token.content) == 0) {
      return &token;
    }
  }
  return nullptr;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text, bool is_normalized) const {
  std::vector<Part> parts;
  std::size_t begin = 0;  // of the plain text that is not yet a part
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = longest_at(text, at, is_normalized);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t first = at;
    std::size_t end = at + token->content.size();
    const bool is_inside_word = continues_word(last_of(text.substr(0, at))) ||
                                (end < text.size() && continues_word(first_of(text.substr(end))));
    if (token->is_word && is_inside_word) {
      at = end;
      continue;
    }
    if (token->takes_spaces_before) first -= spaces_before(text.substr(begin, at - begin));
    if (token->takes_spaces_after) end += spaces_after(text.substr(end));
    if (first > begin) parts.push_back({std::string(text.substr(begin, first - begin))});
    parts.push_back({token->content, token->id});
    begin = at = end;
  }
  if (begin < text.size()) parts.push_back({std::string(text.substr(begin))});
  return parts;
}

}  // namespace deepscale
