// GPT-2's letters for bytes: each byte is one printable character, so that any text is a text of letters.
// Internal to runtime/tokenizer; pure functions.
#pragma once

#include <string>
#include <string_view>

namespace deepscale {

std::string bytes_to_letters(std::string_view bytes);
// Characters that stand for no byte are kept as they are.
std::string letters_to_bytes(std::string_view letters);

}  // namespace deepscale
