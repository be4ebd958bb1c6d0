#include "runtime/tokenizer/unicode.h"

#include <algorithm>

#include "runtime/tokenizer/unicode_tables.h"

namespace deepscale {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kHangulFirst = 0xAC00;
constexpr char32_t kHangulLast = 0xD7A3;

bool is_in(const UnicodeTable<UnicodeRange>& table, char32_t point) {
  const auto* after =
      std::upper_bound(table.begin(), table.end(), point,
                       [](char32_t value, const UnicodeRange& range) { return value < range.first; });
  return after != table.begin() && point <= (after - 1)->last;
}

// Least code point of a sequence of that many bytes: shorter ones are not to be written longer.
constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};

std::size_t announced_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return 2;
  if (first >= 0xE0 && first < 0xF0) return 3;
  if (first >= 0xF0 && first < 0xF5) return 4;
  return 0;
}

// The code point that begins here and its bytes; a byte that begins none is one U+FFFD.
std::pair<char32_t, std::size_t> next_point(std::string_view bytes) {
  const auto first = static_cast<unsigned char>(bytes.front());
  const std::size_t length = announced_length(first);
  if (length == 1) return {first, 1};
  if (length == 0 || length > bytes.size()) return {kReplacement, 1};
  char32_t point = first & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(bytes[i]);
    if ((next & 0xC0U) != 0x80) return {kReplacement, 1};
    point = point << 6 | (next & 0x3FU);
  }
  const bool is_surrogate = point >= 0xD800 && point <= 0xDFFF;
  if (point < kLeast[length] || point > 0x10FFFF || is_surrogate) return {kReplacement, 1};
  return {point, length};
}

}  // namespace

std::u32string decode_utf8(std::string_view bytes) {
  std::u32string points;
  points.reserve(bytes.size());
  while (!bytes.empty()) {
    const auto [point, length] = next_point(bytes);
    points.push_back(point);
    bytes.remove_prefix(length);
  }
  return points;
}

void append_utf8(std::string& out, char32_t point) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (point >> shift & 0x3F)); };
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xC0 | point >> 6);
    tail(0);
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0 | point >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string encode_utf8(std::u32string_view points) {
  std::string bytes;
  bytes.reserve(points.size());
  for (const char32_t point : points) append_utf8(bytes, point);
  return bytes;
}

std::size_t utf8_length(std::string_view bytes) {
  return bytes.empty() ? 0 : next_point(bytes).second;
}

bool is_letter(char32_t point) {
  return is_in(unicode_letters, point);
}

bool is_number(char32_t point) {
  return is_in(unicode_numbers, point);
}

bool is_decimal_digit(char32_t point) {
  return is_in(unicode_decimal_digits, point);
}

bool is_mark(char32_t point) {
  return is_in(unicode_marks, point);
}

bool is_nonspacing_mark(char32_t point) {
  return is_in(unicode_nonspacing_marks, point);
}

bool is_punctuation(char32_t point) {
  return is_in(unicode_punctuation, point);
}

bool is_other(char32_t point) {
  return is_in(unicode_other, point);
}

bool is_white_space(char32_t point) {
  return (point >= 0x09 && point <= 0x0D) || point == 0x20 || point == 0x85 || point == 0xA0 ||
         point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 ||
         point == 0x202F || point == 0x205F || point == 0x3000;
}

bool is_chinese(char32_t point) {
  static constexpr UnicodeRange kRanges[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                             {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                             {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  return std::any_of(std::begin(kRanges), std::end(kRanges), [point](const UnicodeRange& range) {
    return point >= range.first && point <= range.last;
  });
}

bool is_bert_punctuation(char32_t point) {
  const bool is_ascii_sign = (point >= 33 && point <= 47) || (point >= 58 && point <= 64) ||
                             (point >= 91 && point <= 96) || (point >= 123 && point <= 126);
  return is_ascii_sign || is_punctuation(point);
}

char32_t to_lower(char32_t point) {
  const auto* after =
      std::upper_bound(unicode_lower_case.begin(), unicode_lower_case.end(), point,
                       [](char32_t value, const UnicodeLowerCase& row) { return value < row.first; });
  if (after == unicode_lower_case.begin()) return point;
  const UnicodeLowerCase& row = *(after - 1);
  if (point > row.last || (point - row.first) % row.step != 0) return point;
  return static_cast<char32_t>(static_cast<std::int64_t>(point) + row.distance);
}

void append_decomposed(std::u32string& out, char32_t point) {
  if (point >= kHangulFirst && point <= kHangulLast) {  // a syllable is its place in a grid of 19 x 21 x 28
    const char32_t index = point - kHangulFirst;
    out += static_cast<char32_t>(0x1100 + index / 588);
    out += static_cast<char32_t>(0x1161 + index % 588 / 28);
    if (index % 28 != 0) out += static_cast<char32_t>(0x11A7 + index % 28);
    return;
  }
  const auto* found =
      std::lower_bound(unicode_decompositions.begin(), unicode_decompositions.end(), point,
                       [](const UnicodeDecomposition& row, char32_t value) { return row.from < value; });
  if (found == unicode_decompositions.end() || found->from != point) {
    out += point;
    return;
  }
  append_decomposed(out, found->first);
  if (found->second != 0) append_decomposed(out, found->second);
}

}  // namespace deepscale
