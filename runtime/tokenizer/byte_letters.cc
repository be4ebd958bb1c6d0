#include "runtime/tokenizer/byte_letters.h"

#include <array>

#include "runtime/tokenizer/unicode.h"

namespace deepscale {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;  // of the bytes that do not print themselves, in their order

constexpr bool prints_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Letters {
  std::array<char32_t, 256> of_byte{};
  std::array<int, 0x200> byte_of{};  // -1: none
};

constexpr Letters make_letters() {
  Letters letters;
  for (int& byte : letters.byte_of) byte = -1;
  char32_t substitute = kFirstSubstitute;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char32_t letter = prints_itself(byte) ? byte : substitute++;
    letters.of_byte[byte] = letter;
    letters.byte_of[letter] = static_cast<int>(byte);
  }
  return letters;
}

constexpr Letters kLetters = make_letters();

}  // namespace

std::string bytes_to_letters(std::string_view bytes) {
  std::string letters;
  letters.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(letters, kLetters.of_byte[static_cast<unsigned char>(byte)]);
  return letters;
}

std::string letters_to_bytes(std::string_view letters) {
  std::string bytes;
  for (const char32_t letter : decode_utf8(letters)) {
    const int byte = letter < kLetters.byte_of.size() ? kLetters.byte_of[letter] : -1;
    if (byte >= 0) {
      bytes += static_cast<char>(byte);
    } else {
      append_utf8(bytes, letter);
    }
  }
  return bytes;
}

}  // namespace deepscale
