#include "comm/base/environment.h"

#include <windows.h>

#include <string>

#include "comm/base/text_encoding_windows.h"

namespace deepscale {

namespace {
char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
}  // namespace

bool Environment::NameLess::operator()(std::string_view left, std::string_view right) const {
  for (std::size_t i = 0; i < left.size() && i < right.size(); ++i) {
    if (lower(left[i]) != lower(right[i])) return lower(left[i]) < lower(right[i]);
  }
  return left.size() < right.size();
}

Environment Environment::of_process() {
  Environment environment;
  wchar_t* block = GetEnvironmentStringsW();
  for (const wchar_t* entry = block; entry != nullptr && *entry != L'\0';) {
    const std::wstring_view text(entry);
    // Windows keeps per-drive folders as variables named "=C:"; they are not the user's.
    const auto equals = text.find(L'=', 1);
    if (text[0] != L'=' && equals != std::wstring_view::npos) {
      environment.set(to_utf8(text.substr(0, equals)), to_utf8(text.substr(equals + 1)));
    }
    entry += text.size() + 1;
  }
  if (block != nullptr) FreeEnvironmentStringsW(block);
  return environment;
}

}  // namespace deepscale
