#include "runtime/tokenizer/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "runtime/pretrained/text_file.h"
#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/steps.h"
#include "runtime/tokenizer/word_model.h"

namespace deepscale {
namespace {

nlohmann::json member(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() ? nlohmann::json() : *found;
}

}  // namespace

struct Tokenizer::Parts {
  Parts(const nlohmann::json& json, const std::string& name)
      : added(member(json, "added_tokens"), name),
        normalize(make_normalizer(member(json, "normalizer"), name + ": normalizer")),
        pre_tokenize(make_pre_tokenizer(member(json, "pre_tokenizer"), name + ": pre_tokenizer")),
        model(make_word_model(member(json, "model"), name + ": model")),
        decode(make_decoder(member(json, "decoder"), name + ": decoder")),
        post_process(make_post_processor(member(json, "post_processor"), name + ": post_processor")) {
    for (const auto& [token, id] : model->vocabulary()) texts[id] = token;
    for (const AddedToken& token : added.all()) {
      texts[token.id] = token.content;
      added_ids[token.content] = token.id;
      if (token.is_special) special.insert(token.id);
    }
    for (const auto& [id, text] : texts) size = std::max(size, id + 1);
  }

  void append_plain(std::string text, bool begins_text, std::vector<std::int64_t>& tokens) const {
    for (const TextPiece& piece : pre_tokenize({{std::move(text), begins_text}})) {
      if (!piece.text.empty()) model->append_tokens(piece.text, tokens);
    }
  }

  AddedTokens added;
  Normalizer normalize;
  PreTokenizer pre_tokenize;
  std::unique_ptr<WordModel> model;
  TokenDecoder decode;
  PostProcessor post_process;
  std::unordered_map<std::int64_t, std::string> texts;
  std::unordered_map<std::string, std::int64_t> added_ids;
  std::unordered_set<std::int64_t> special;
  std::int64_t size = 0;
};

Tokenizer Tokenizer::from_pretrained(const std::filesystem::path& directory) {
  const auto path = directory / "tokenizer.json";
  return parse(read_text_file(path, "save the tokenizer once with transformers, which writes it"),
               path.string());
}

Tokenizer Tokenizer::parse(std::string_view json, std::string_view name) {
  return Tokenizer(std::make_shared<const Parts>(parse_json_object(json, name), std::string(name)));
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text, bool adds_special_tokens) const {
  std::vector<std::int64_t> tokens;
  bool begins_text = true;
  for (const auto& raw : parts_->added.split(text, /*is_normalized=*/false)) {
    if (raw.id >= 0) {
      tokens.push_back(raw.id);
      begins_text = false;
      continue;
    }
    for (const auto& part : parts_->added.split(parts_->normalize(raw.text), /*is_normalized=*/true)) {
      if (part.id >= 0) {
        tokens.push_back(part.id);
      } else {
        parts_->append_plain(part.text, begins_text, tokens);
      }
      begins_text = false;
    }
  }
  return adds_special_tokens ? parts_->post_process(std::move(tokens)) : tokens;
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& tokens, bool skips_special_tokens) const {
  std::vector<std::string> texts;
  for (const std::int64_t id : tokens) {
    const auto text = parts_->texts.find(id);
    if (text == parts_->texts.end() || (skips_special_tokens && is_special(id))) continue;
    texts.push_back(text->second);
  }
  std::string result;
  for (const std::string& text : parts_->decode(std::move(texts))) result += text;
  return result;
}

std::optional<std::int64_t> Tokenizer::find(const std::string& token) const {
  const auto added = parts_->added_ids.find(token);
  if (added != parts_->added_ids.end()) return added->second;
  const auto found = parts_->model->vocabulary().find(token);
  if (found == parts_->model->vocabulary().end()) return std::nullopt;
  return found->second;
}

std::optional<std::string> Tokenizer::token(std::int64_t id) const {
  const auto found = parts_->texts.find(id);
  if (found == parts_->texts.end()) return std::nullopt;
  return found->second;
}

bool Tokenizer::is_special(std::int64_t id) const {
  return parts_->special.count(id) > 0;
}

std::int64_t Tokenizer::size() const {
  return parts_->size;
}

}  // namespace deepscale
