// The steps of a tokenizer.json, each made from its JSON. Internal to runtime/tokenizer.
//
// A maker throws Error(kUnsupported), naming the key and the type, for a part that is not here, and
// Error(kInvalidArgument) for a malformed one. The steps are immutable and any thread may run them.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace deepscale {

struct TextPiece {
  std::string text;
  bool begins_text = false;  // it is the first of the whole text
};

using Normalizer = std::function<std::string(std::string)>;
using PreTokenizer = std::function<std::vector<TextPiece>(std::vector<TextPiece>)>;
using TokenDecoder = std::function<std::vector<std::string>(std::vector<std::string>)>;
using PostProcessor = std::function<std::vector<std::int64_t>(std::vector<std::int64_t>)>;

// Where JSON null means: none, which changes nothing. `where` is the file and key, for messages.
Normalizer make_normalizer(const nlohmann::json& json, const std::string& where);
PreTokenizer make_pre_tokenizer(const nlohmann::json& json, const std::string& where);
// Its texts, joined, are the decoded text.
TokenDecoder make_decoder(const nlohmann::json& json, const std::string& where);
// What it adds around the tokens of one text.
PostProcessor make_post_processor(const nlohmann::json& json, const std::string& where);

}  // namespace deepscale
