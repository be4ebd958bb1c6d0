#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/tokenizer/byte_letters.h"
#include "runtime/tokenizer/step_fields.h"
#include "runtime/tokenizer/steps.h"
#include "runtime/tokenizer/unicode.h"

namespace deepscale {
namespace {

using Texts = std::vector<std::string>;

std::string joined(const Texts& texts) {
  std::string all;
  for (const std::string& text : texts) all += text;
  return all;
}

// Bytes that are no UTF-8 become U+FFFD.
std::string valid_utf8(const std::string& bytes) {
  return encode_utf8(decode_utf8(bytes));
}

TokenDecoder make_byte_level(const nlohmann::json&, const std::string&) {
  return [](const Texts& tokens) { return Texts{valid_utf8(letters_to_bytes(joined(tokens)))}; };
}

// English as people write it, as the BERT tokenizer undoes its splitting.
std::string cleaned_up(std::string text) {
  static constexpr std::pair<const char*, const char*> kSplit[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kSplit) {
    text = replace_all(text, from, to);
  }
  return text;
}

TokenDecoder make_word_piece(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  return [prefix = fields.text("prefix", "##"), cleans_up = fields.boolean("cleanup", true)](Texts tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) {
        const bool continues = tokens[i].compare(0, prefix.size(), prefix) == 0;
        tokens[i] = continues ? tokens[i].substr(prefix.size()) : " " + tokens[i];
      }
      if (cleans_up) tokens[i] = cleaned_up(tokens[i]);
    }
    return tokens;
  };
}

TokenDecoder make_metaspace(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  const std::string sign = fields.text("replacement", kMetaspace);
  const std::string scheme =
      fields.text("prepend_scheme", fields.boolean("add_prefix_space", true) ? "always" : "never");
  if (sign.empty()) fields.fail("replacement", "empty");
  return [sign, was_prepended = scheme != "never"](Texts tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i == 0 && was_prepended && tokens[i].compare(0, sign.size(), sign) == 0)
        tokens[i].erase(0, sign.size());
      tokens[i] = replace_all(tokens[i], sign, " ");
    }
    return tokens;
  };
}

// The byte of a token "<0x0A>".
std::optional<char> byte_of(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token.back() != '>') return std::nullopt;
  int value = 0;
  for (const char digit : token.substr(3, 2)) {
    const auto place = std::string_view("0123456789ABCDEFabcdef").find(digit);
    if (place == std::string_view::npos) return std::nullopt;
    value = value * 16 + static_cast<int>(place < 16 ? place : place - 6);
  }
  return static_cast<char>(value);
}

// A run of bytes is text, or as many U+FFFD as it has bytes.
void end_bytes(std::string& bytes, Texts& result) {
  if (bytes.empty()) return;
  std::string text = valid_utf8(bytes);
  if (text != bytes) text = replace_all(std::string(bytes.size(), '?'), "?", "\xEF\xBF\xBD");
  result.push_back(std::move(text));
  bytes.clear();
}

TokenDecoder make_byte_fallback(const nlohmann::json&, const std::string&) {
  return [](const Texts& tokens) {
    Texts result;
    std::string bytes;
    for (const std::string& token : tokens) {
      if (const std::optional<char> byte = byte_of(token)) {
        bytes += *byte;
        continue;
      }
      end_bytes(bytes, result);
      result.push_back(token);
    }
    end_bytes(bytes, result);
    return result;
  };
}

TokenDecoder make_fuse(const nlohmann::json&, const std::string&) {
  return [](const Texts& tokens) { return Texts{joined(tokens)}; };
}

TokenDecoder make_replace(const nlohmann::json& json, const std::string& where) {
  bool is_regex = false;
  const std::string from = read_pattern_text(json, where, is_regex);
  if (is_regex) ConfigFields(json, where).unsupported("pattern", "an expression in a decoder is not here");
  return [from, to = ConfigFields(json, where).text("content", "")](Texts tokens) {
    for (std::string& token : tokens) token = replace_all(token, from, to);
    return tokens;
  };
}

TokenDecoder make_strip(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  const std::string sign = fields.text("content", " ");
  if (sign.empty()) fields.fail("content", "empty");
  return [sign, start = fields.integer("start", 0), stop = fields.integer("stop", 0)](Texts tokens) {
    for (std::string& token : tokens) {
      for (std::int64_t i = 0; i < start && token.compare(0, sign.size(), sign) == 0; ++i)
        token.erase(0, sign.size());
      for (std::int64_t i = 0; i < stop && token.size() >= sign.size() &&
                               token.compare(token.size() - sign.size(), sign.size(), sign) == 0;
           ++i) {
        token.resize(token.size() - sign.size());
      }
    }
    return tokens;
  };
}

TokenDecoder make_one(const nlohmann::json& json, const std::string& where);

TokenDecoder make_sequence(const nlohmann::json& json, const std::string& where) {
  return [steps = make_steps<TokenDecoder>(json, "decoders", where, &make_one)](Texts tokens) {
    for (const TokenDecoder& step : steps) tokens = step(std::move(tokens));
    return tokens;
  };
}

TokenDecoder make_one(const nlohmann::json& json, const std::string& where) {
  static const StepMakers<TokenDecoder> makers = {{"ByteFallback", &make_byte_fallback},
                                                  {"ByteLevel", &make_byte_level},
                                                  {"Fuse", &make_fuse},
                                                  {"Metaspace", &make_metaspace},
                                                  {"Replace", &make_replace},
                                                  {"Sequence", &make_sequence},
                                                  {"Strip", &make_strip},
                                                  {"WordPiece", &make_word_piece}};
  return make_step(json, where, makers);
}

}  // namespace

TokenDecoder make_decoder(const nlohmann::json& json, const std::string& where) {
  if (!json.is_null()) return make_one(json, where);
  return [](Texts tokens) {  // as words
    for (std::size_t i = 1; i < tokens.size(); ++i) tokens[i] = " " + tokens[i];
    return tokens;
  };
}

}  // namespace deepscale
