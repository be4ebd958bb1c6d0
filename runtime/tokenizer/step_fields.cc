#include "runtime/tokenizer/step_fields.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "comm/base/error.h"

namespace deepscale {

void refuse_part(const std::string& where, const std::string& type, const std::vector<std::string>& known) {
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: no part '{}' in this tokenizer; there are {}", where,
                                                   type.substr(0, 60), fmt::join(known, ", ")));
}

std::string read_pattern_text(const nlohmann::json& json, const std::string& where, bool& is_regex) {
  const ConfigFields pattern = ConfigFields(json, where).section("pattern");
  is_regex = pattern.has("Regex");
  const std::string text = pattern.text(is_regex ? "Regex" : "String", "");
  if (text.empty()) pattern.fail("String", "missing");
  return text;
}

std::string replace_all(const std::string& text, const std::string& from, const std::string& to) {
  std::string result;
  std::size_t at = 0;
  for (std::size_t found = text.find(from); found != std::string::npos; found = text.find(from, at)) {
    result.append(text, at, found - at).append(to);
    at = found + from.size();
  }
  return result.append(text, at);
}

}  // namespace deepscale
