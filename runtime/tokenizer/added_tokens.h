// Tokens that are found in a text before anything else, such as <|endoftext|>. Internal to runtime/tokenizer.
// Immutable; any thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deepscale {

struct AddedToken {
  std::int64_t id = 0;
  std::string content;
  bool takes_spaces_before = false, takes_spaces_after = false;
  bool is_word = false;        // only where no word goes on beside it
  bool is_normalized = false;  // looked for in the normalized text
  bool is_special = false;
};

class AddedTokens {
 public:
  // A part of a text: plain, or an added token.
  struct Part {
    std::string text;
    std::int64_t id = -1;  // -1: plain text
  };

  // Error(kInvalidArgument) for a malformed list.
  AddedTokens(const nlohmann::json& list, const std::string& where);

  const std::vector<AddedToken>& all() const { return all_; }
  // Splits at those that are looked for in the text as it came, or in the normalized text.
  std::vector<Part> split(std::string_view text, bool is_normalized) const;

 private:
  const AddedToken* longest_at(std::string_view text, std::size_t at, bool is_normalized) const;

  std::vector<AddedToken> all_;
  std::unordered_map<char, std::vector<std::size_t>> by_first_byte_;  // longest first
};

}  // namespace deepscale
