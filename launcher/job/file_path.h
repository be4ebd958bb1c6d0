// UTF-8 text to paths and back: std::filesystem takes narrow text in the system's code page, which on Windows
// is not UTF-8.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace deepscale {

inline std::filesystem::path to_path(std::string_view utf8) {
  return std::filesystem::path(std::u8string(utf8.begin(), utf8.end()));
}

inline std::string to_text(const std::filesystem::path& path) {
  const std::u8string text = path.u8string();
  return std::string(text.begin(), text.end());
}

}  // namespace deepscale
