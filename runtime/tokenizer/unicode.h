// UTF-8 and the properties of code points that tokenizers ask for. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

namespace deepscale {

// Bytes that are no UTF-8 become U+FFFD each.
std::u32string decode_utf8(std::string_view bytes);
void append_utf8(std::string& out, char32_t point);
std::string encode_utf8(std::u32string_view points);
// Bytes of the character that begins here: 1 to 4, and no more than `bytes` has.
std::size_t utf8_length(std::string_view bytes);

bool is_letter(char32_t point);            // \p{L}
bool is_number(char32_t point);            // \p{N}
bool is_decimal_digit(char32_t point);     // \d
bool is_mark(char32_t point);              // \p{M}
bool is_nonspacing_mark(char32_t point);   // \p{Mn}
bool is_punctuation(char32_t point);       // \p{P}
bool is_other(char32_t point);             // control, format, private use
bool is_white_space(char32_t point);       // \s, the property White_Space
bool is_chinese(char32_t point);           // as BERT defines it
bool is_bert_punctuation(char32_t point);  // \p{P} and all ASCII that is neither letter, digit nor space

// Simple lower case: one code point for one.
char32_t to_lower(char32_t point);
// Canonical decomposition, without reordering of marks.
void append_decomposed(std::u32string& out, char32_t point);

}  // namespace deepscale
