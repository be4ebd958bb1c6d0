// The tables that make_unicode_tables.py writes. Internal to runtime/tokenizer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepscale {

// Sorted by the first member; constant, so any thread may read.
template <typename Row>
struct UnicodeTable {
  const Row* data;
  std::size_t size;

  const Row* begin() const { return data; }
  const Row* end() const { return data + size; }
};

struct UnicodeRange {
  char32_t first, last;
};

// Code points from first to last, `step` apart, whose lower case is `distance` away.
struct UnicodeLowerCase {
  char32_t first, last;
  std::uint32_t step;
  std::int32_t distance;
};

// One step of canonical decomposition; `second` is 0 where it is one code point.
struct UnicodeDecomposition {
  char32_t from, first, second;
};

extern const UnicodeTable<UnicodeRange> unicode_letters;           // category L
extern const UnicodeTable<UnicodeRange> unicode_numbers;           // N
extern const UnicodeTable<UnicodeRange> unicode_decimal_digits;    // Nd
extern const UnicodeTable<UnicodeRange> unicode_marks;             // M
extern const UnicodeTable<UnicodeRange> unicode_nonspacing_marks;  // Mn
extern const UnicodeTable<UnicodeRange> unicode_punctuation;       // P
extern const UnicodeTable<UnicodeRange> unicode_other;             // Cc, Cf, Co
extern const UnicodeTable<UnicodeLowerCase> unicode_lower_case;
extern const UnicodeTable<UnicodeDecomposition> unicode_decompositions;  // without Hangul

}  // namespace deepscale
