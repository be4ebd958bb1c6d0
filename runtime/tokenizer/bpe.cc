#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <queue>
#include <tuple>

#include "runtime/pretrained/config_fields.h"
#include "runtime/tokenizer/unicode.h"
#include "runtime/tokenizer/word_model.h"

namespace deepscale {
namespace {

constexpr std::int64_t kNone = -1;

struct Merge {
  std::int64_t rank;  // the earlier in the file, the lower
  std::int64_t token;
};

// Two tokens in one number; ids fit into 31 bits.
std::uint64_t pair_key(std::int64_t left, std::int64_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
}

// The tokens of a piece while they are merged: a list in which a merged token takes the place of its left
// part.
class MergeList {
 public:
  using Merges = std::unordered_map<std::uint64_t, Merge>;

  MergeList(const std::vector<std::int64_t>& tokens, const Merges& merges) : merges_(merges) {
    const auto count = static_cast<std::int64_t>(tokens.size());
    for (std::int64_t i = 0; i < count; ++i) {
      items_.push_back({tokens[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : kNone});
    }
    for (std::int64_t i = 0; i + 1 < count; ++i) consider(i);
  }

  void merge_all() {
    while (!queue_.empty()) {
      const auto [rank, left, token, key] = queue_.top();
      queue_.pop();
      Item& item = at(left);
      // Something else may have been merged here since.
      if (item.token == kNone || item.next == kNone || pair_key(item.token, at(item.next).token) != key)
        continue;
      Item& right = at(item.next);
      item.token = token;
      right.token = kNone;
      item.next = right.next;
      if (item.next != kNone) at(item.next).previous = left;
      if (item.previous != kNone) consider(item.previous);
      consider(left);
    }
  }

  void append_to(std::vector<std::int64_t>& tokens) const {
    for (const Item& item : items_) {
      if (item.token != kNone) tokens.push_back(item.token);
    }
  }

 private:
  struct Item {
    std::int64_t token;  // kNone: merged into the one before
    std::int64_t previous, next;
  };
  using Candidate =
      std::tuple<std::int64_t, std::int64_t, std::int64_t, std::uint64_t>;  // rank, place, token, key

  Item& at(std::int64_t index) { return items_[static_cast<std::size_t>(index)]; }

  void consider(std::int64_t left) {
    if (at(left).next == kNone) return;
    const std::uint64_t key = pair_key(at(left).token, at(at(left).next).token);
    const auto merge = merges_.find(key);
    if (merge != merges_.end()) queue_.emplace(merge->second.rank, left, merge->second.token, key);
  }

  const Merges& merges_;
  std::vector<Item> items_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue_;
};

class Bpe : public WordModel {
 public:
  Bpe(const nlohmann::json& json, const std::string& where) : vocabulary_(read_vocabulary(json, where)) {
    const ConfigFields fields(json, where);
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!fields.text(key, "").empty()) fields.unsupported(key, "byte-pair encoding with one is not here");
    }
    if (fields.number("dropout", 0.0) != 0.0) fields.unsupported("dropout", "random merges are not here");
    falls_back_to_bytes_ = fields.boolean("byte_fallback", false);
    fuses_unknown_ = fields.boolean("fuse_unk", false);
    ignores_merges_ = fields.boolean("ignore_merges", false);
    const std::string unknown = fields.text("unk_token", "");
    if (!unknown.empty()) unknown_ = find(unknown);
    if (!unknown.empty() && unknown_ == kNone) fields.fail("unk_token", "not in the vocabulary");
    read_merges(json, fields);
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void append_tokens(std::string_view piece, std::vector<std::int64_t>& tokens) const override {
    if (ignores_merges_) {
      const std::int64_t whole = find(std::string(piece));
      if (whole != kNone) {
        tokens.push_back(whole);
        return;
      }
    }
    MergeList list(characters(piece), merges_);
    list.merge_all();
    list.append_to(tokens);
  }

 private:
  std::int64_t find(const std::string& token) const {
    const auto found = vocabulary_.find(token);
    return found == vocabulary_.end() ? kNone : found->second;
  }

  // "a b" or ["a", "b"].
  void read_merges(const nlohmann::json& json, const ConfigFields& fields) {
    const auto list = json.find("merges");
    if (list == json.end() || !list->is_array()) fields.fail("merges", "expected a list");
    merges_.reserve(list->size());
    std::int64_t rank = 0;
    for (const nlohmann::json& merge : *list) {
      std::string left, right;
      if (merge.is_string()) {
        const std::string text = merge.get<std::string>();
        const std::size_t space = text.find(' ', 1);
        if (space != std::string::npos) left = text.substr(0, space), right = text.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
      }
      const std::int64_t merged = find(left + right);
      if (left.empty() || right.empty() || find(left) == kNone || find(right) == kNone || merged == kNone) {
        fields.fail("merges", fmt::format("entry {} does not join two tokens to a third", rank));
      }
      merges_.emplace(pair_key(find(left), find(right)), Merge{rank++, merged});
    }
  }

  std::vector<std::int64_t> characters(std::string_view piece) const {
    std::vector<std::int64_t> tokens;
    bool follows_unknown = false;
    while (!piece.empty()) {
      const std::string character(piece.substr(0, utf8_length(piece)));
      piece.remove_prefix(character.size());
      const std::int64_t token = find(character);
      if (token != kNone) {
        tokens.push_back(token);
      } else if (!append_bytes(character, tokens) && unknown_ != kNone) {
        if (!(follows_unknown && fuses_unknown_)) tokens.push_back(unknown_);
        follows_unknown = true;
        continue;
      }
      follows_unknown = false;
    }
    return tokens;
  }

  bool append_bytes(const std::string& character, std::vector<std::int64_t>& tokens) const {
    if (!falls_back_to_bytes_) return false;
    std::vector<std::int64_t> bytes;
    for (const char byte : character) {
      bytes.push_back(find(fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte))));
      if (bytes.back() == kNone) return false;
    }
    tokens.insert(tokens.end(), bytes.begin(), bytes.end());
    return true;
  }

  Vocabulary vocabulary_;
  MergeList::Merges merges_;
  std::int64_t unknown_ = kNone;
  bool falls_back_to_bytes_, fuses_unknown_, ignores_merges_;
};

}  // namespace

std::unique_ptr<WordModel> make_bpe(const nlohmann::json& json, const std::string& where) {
  return std::make_unique<Bpe>(json, where);
}

}  // namespace deepscale
