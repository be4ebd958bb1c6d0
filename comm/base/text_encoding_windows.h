// UTF-8 at DeepScale's borders, UTF-16 at the Windows API's. Only *_windows.cc files include this.
#pragma once

#include <string>
#include <string_view>

namespace deepscale {

std::wstring to_wide(std::string_view utf8);
std::string to_utf8(std::wstring_view wide);
std::string windows_error_text(unsigned long error_code);  // "Access is denied. (5)"

}  // namespace deepscale
