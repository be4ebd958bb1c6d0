// A config from outside: a file, or the urlsafe-base64 form of its text.
#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>

#include "comm/base/error.h"
#include "runtime/config/config.h"

namespace deepscale {
namespace {

// A config has kilobytes; whoever passes a checkpoint by mistake should not wait for it.
constexpr std::uintmax_t kLargestFileBytes = 64 << 20;

int digit_of_base64(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '-' || c == '+') return 62;
  if (c == '_' || c == '/') return 63;
  return -1;
}

std::optional<std::string> decode_base64(std::string_view encoded) {
  for (int i = 0; i < 2 && encoded.ends_with('='); ++i) encoded.remove_suffix(1);
  std::string decoded;
  std::uint32_t bits = 0;
  int bit_count = 0;
  for (const char c : encoded) {
    const int digit = digit_of_base64(c);
    if (digit < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<std::uint32_t>(digit)) & 0xFFFFFF;
    bit_count += 6;
    if (bit_count >= 8) {
      bit_count -= 8;
      decoded.push_back(static_cast<char>(bits >> bit_count & 0xFF));
    }
  }
  return decoded;
}

// Every word of letters is valid base64; what is meant to be a config begins as one.
bool looks_like_config(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && (text[first] == '{' || text[first] == '#' || text[first] == '/');
}

std::filesystem::path path_of_utf8(const std::string& text) {
  return std::filesystem::path(std::u8string(text.begin(), text.end()));
}

std::string read_file(const std::filesystem::path& path, const std::string& name) {
  const auto refuse = [&](ErrorCode code, const std::string& why) {
    throw Error(code, fmt::format("{}: {}", name, why));
  };
  std::error_code failure;
  if (std::filesystem::is_directory(path, failure)) {
    refuse(ErrorCode::kInvalidArgument, "is a folder; give the path of a ds_config.json file");
  }
  const std::uintmax_t size = std::filesystem::file_size(path, failure);
  if (!failure && size > kLargestFileBytes) {
    refuse(ErrorCode::kInvalidArgument, fmt::format("has {} bytes, which no ds_config.json has", size));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(ErrorCode::kInvalidArgument, "cannot be read; check its permissions");
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) refuse(ErrorCode::kSystem, "could not be read to its end");
  return text;
}

}  // namespace

Config load_config(const std::string& path_or_base64, const ConfigContext& context) {
  const std::filesystem::path path = path_of_utf8(path_or_base64);
  std::error_code failure;
  if (!path_or_base64.empty() && std::filesystem::exists(path, failure)) {
    return parse_config(read_file(path, path_or_base64), path_or_base64, context);
  }
  const std::optional<std::string> decoded = decode_base64(path_or_base64);
  if (decoded && looks_like_config(*decoded)) return parse_config(*decoded, "base64 config", context);

  constexpr std::size_t kLongestShown = 200;
  throw Error(
      ErrorCode::kNotFound,
      fmt::format("{}: no such config file (and it is not a config in base64); the current folder is {}",
                  path_or_base64.empty() ? "\"\"" : path_or_base64.substr(0, kLongestShown),
                  std::filesystem::current_path(failure).string()));
}

}  // namespace deepscale
