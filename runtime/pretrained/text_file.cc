#include "runtime/pretrained/text_file.h"

#include <fmt/core.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/base/error.h"

namespace deepscale {
namespace {

constexpr int kMaxDepth = 64;

// Refuses what is nested so deep that a reader's recursion would end the process.
bool is_shallow(int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
  if (depth > kMaxDepth) throw std::length_error(fmt::format("nested deeper than {}", kMaxDepth));
  return true;
}

}  // namespace

std::string read_text_file(const std::filesystem::path& path, std::string_view what_for) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(ErrorCode::kNotFound, fmt::format("{} does not exist: {}", path.string(), what_for));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file || std::filesystem::is_directory(path, ignored)) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot read {}", path.string()));
  }
  return text;
}

nlohmann::json parse_json_object(std::string_view text, std::string_view name) {
  try {
    nlohmann::json json = nlohmann::json::parse(text, &is_shallow);
    if (json.is_object()) return json;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: malformed JSON ({})", name, error.what()));
  }
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: expected a JSON object", name));
}

}  // namespace deepscale
