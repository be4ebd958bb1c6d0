// Any bytes as a tokenizer.json, and any text for it: tokens within its size, or an Error; nothing else. The
// text is what comes after the first zero byte.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(bytes.find('\0'), bytes.size());
  try {
    const auto tokenizer = deepscale::Tokenizer::parse(bytes.substr(0, end), "fuzz");
    for (const std::string_view text :
         {std::string_view("It's 12 caf\xC3\xA9s,  <s>\n"), bytes.substr(end)}) {
      const auto tokens = tokenizer.encode(text);
      tokenizer.decode(tokens);
    }
  } catch (const deepscale::Error&) {
  }
  return 0;
}
