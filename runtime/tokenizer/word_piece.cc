#include <nlohmann/json.hpp>

#include "runtime/pretrained/config_fields.h"
#include "runtime/tokenizer/step_fields.h"
#include "runtime/tokenizer/unicode.h"
#include "runtime/tokenizer/word_model.h"

namespace deepscale {
namespace {

class WordPiece : public WordModel {
 public:
  WordPiece(const nlohmann::json& json, const std::string& where)
      : vocabulary_(read_vocabulary(json, where)) {
    const ConfigFields fields(json, where);
    prefix_ = fields.text("continuing_subword_prefix", "##");
    most_characters_ = static_cast<std::size_t>(fields.integer("max_input_chars_per_word", 100, 1));
    const auto unknown = vocabulary_.find(fields.text("unk_token", "[UNK]"));
    if (unknown == vocabulary_.end()) fields.fail("unk_token", "not in the vocabulary");
    unknown_ = unknown->second;
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void append_tokens(std::string_view piece, std::vector<std::int64_t>& tokens) const override {
    const std::size_t before = tokens.size();
    if (decode_utf8(piece).size() <= most_characters_) {
      std::size_t begin = 0;
      while (begin < piece.size()) {
        const std::size_t end = append_longest(piece, begin, tokens);
        if (end == begin) break;
        begin = end;
      }
      if (begin == piece.size()) return;
    }
    tokens.resize(before);
    tokens.push_back(unknown_);
  }

 private:
  // The longest token that begins here; returns its end, or `begin` where there is none.
  std::size_t append_longest(std::string_view piece, std::size_t begin,
                             std::vector<std::int64_t>& tokens) const {
    std::string candidate = begin == 0 ? "" : prefix_;
    candidate += piece.substr(begin);
    for (std::size_t end = piece.size(); end > begin; --end) {
      const bool is_boundary =
          end == piece.size() || (static_cast<unsigned char>(piece[end]) & 0xC0U) != 0x80;
      const auto found = is_boundary ? vocabulary_.find(candidate) : vocabulary_.end();
      candidate.pop_back();
      if (found == vocabulary_.end()) continue;
      tokens.push_back(found->second);
      return end;
    }
    return begin;
  }

  Vocabulary vocabulary_;
  std::string prefix_;
  std::size_t most_characters_;
  std::int64_t unknown_;
};

}  // namespace

std::unique_ptr<WordModel> make_word_piece(const nlohmann::json& json, const std::string& where) {
  return std::make_unique<WordPiece>(json, where);
}

Vocabulary read_vocabulary(const nlohmann::json& json, const std::string& where) {
  const auto vocab = json.find("vocab");
  const ConfigFields fields(json, where);
  if (vocab == json.end() || !vocab->is_object()) fields.fail("vocab", "expected an object of tokens");
  Vocabulary vocabulary;
  vocabulary.reserve(vocab->size());
  for (const auto& [token, id] : vocab->items()) {
    const bool is_id = id.is_number_integer() && id >= 0 && id <= 0x7FFFFFFF;
    if (!is_id) fields.fail("vocab", "the number of token '" + token + "' is none");
    vocabulary.emplace(token, id.get<std::int64_t>());
  }
  return vocabulary;
}

std::unique_ptr<WordModel> make_word_model(const nlohmann::json& json, const std::string& where) {
  if (!json.is_object()) refuse_part(where, json.dump(), {"BPE", "WordPiece"});
  const ConfigFields fields(json, where);
  std::string type = fields.text("type", "");
  if (type.empty()) type = json.contains("merges") ? "BPE" : "WordPiece";  // older files do not say
  if (type == "BPE") return make_bpe(json, where);
  if (type == "WordPiece") return make_word_piece(json, where);
  refuse_part(where, type, {"BPE", "WordPiece"});
}

}  // namespace deepscale
