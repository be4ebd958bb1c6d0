// The model of a tokenizer: from one pre-tokenized piece to its tokens. Internal to runtime/tokenizer.
//
// Two kinds: byte-pair encoding (Sennrich et al., 2016; GPT-2, OPT, Llama), with a byte fallback where the
// file has one, and WordPiece (BERT). Immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deepscale {

using Vocabulary = std::unordered_map<std::string, std::int64_t>;

class WordModel {
 public:
  virtual ~WordModel() = default;
  virtual void append_tokens(std::string_view piece, std::vector<std::int64_t>& tokens) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

// Error(kUnsupported) for another kind of model or an option that would change its result, kInvalidArgument
// for a malformed one.
std::unique_ptr<WordModel> make_word_model(const nlohmann::json& json, const std::string& where);
std::unique_ptr<WordModel> make_bpe(const nlohmann::json& json, const std::string& where);
std::unique_ptr<WordModel> make_word_piece(const nlohmann::json& json, const std::string& where);

Vocabulary read_vocabulary(const nlohmann::json& json, const std::string& where);

}  // namespace deepscale
