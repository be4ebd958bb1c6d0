#include "runtime/pretrained/config_fields.h"

#include <fmt/core.h>

#include <cmath>

#include "comm/base/error.h"

namespace deepscale {
namespace {

constexpr std::int64_t kMost = std::int64_t{1}
                               << 40;  // products of two sizes stay within 63 bits of elements

const nlohmann::json& empty_object() {
  static const nlohmann::json object = nlohmann::json::object();
  return object;
}

}  // namespace

bool ConfigFields::has(const std::string& key) const {
  const auto found = json_.find(key);
  return found != json_.end() && !found->is_null();
}

bool ConfigFields::is_empty(const std::string& key) const {
  return !has(key) || json_.at(key).empty();
}

void ConfigFields::fail(const std::string& key, const std::string& why) const {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: \"{}\": {}", name_, key, why));
}

void ConfigFields::unsupported(const std::string& key, const std::string& why) const {
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: \"{}\": {}", name_, key, why));
}

std::int64_t ConfigFields::integer(const std::string& key, std::int64_t fallback, std::int64_t least) const {
  if (!has(key)) return fallback;
  const nlohmann::json& value = json_.at(key);
  if (!value.is_number_integer()) fail(key, fmt::format("expected a whole number, got {}", value.dump()));
  const bool is_huge = value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{kMost};
  if (is_huge || value.get<std::int64_t>() < least || value.get<std::int64_t>() > kMost) {
    fail(key, fmt::format("expected a whole number of at least {}, got {}", least, value.dump()));
  }
  return value.get<std::int64_t>();
}

std::int64_t ConfigFields::required(const std::string& key) const {
  if (!has(key)) fail(key, "missing");
  return integer(key, 0, 1);
}

double ConfigFields::number(const std::string& key, double fallback) const {
  if (!has(key)) return fallback;
  const nlohmann::json& value = json_.at(key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    fail(key, fmt::format("expected a number, got {}", value.dump()));
  }
  return value.get<double>();
}

bool ConfigFields::boolean(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  const nlohmann::json& value = json_.at(key);
  if (!value.is_boolean()) fail(key, fmt::format("expected true or false, got {}", value.dump()));
  return value.get<bool>();
}

std::string ConfigFields::text(const std::string& key, const std::string& fallback) const {
  if (!has(key)) return fallback;
  const nlohmann::json& value = json_.at(key);
  if (!value.is_string()) fail(key, fmt::format("expected a text, got {}", value.dump()));
  return value.get<std::string>();
}

std::vector<double> ConfigFields::numbers(const std::string& key) const {
  std::vector<double> result;
  if (!has(key)) return result;
  if (!json_.at(key).is_array()) fail(key, "expected a list of numbers");
  for (const nlohmann::json& value : json_.at(key)) {
    if (!value.is_number()) fail(key, "expected a list of numbers");
    result.push_back(value.get<double>());
  }
  return result;
}

std::vector<std::string> ConfigFields::texts(const std::string& key) const {
  std::vector<std::string> result;
  if (!has(key)) return result;
  if (!json_.at(key).is_array()) fail(key, "expected a list of texts");
  for (const nlohmann::json& value : json_.at(key)) {
    if (!value.is_string()) fail(key, "expected a list of texts");
    result.push_back(value.get<std::string>());
  }
  return result;
}

std::vector<std::int64_t> ConfigFields::integer_or_list(const std::string& key) const {
  if (!has(key)) return {};
  if (!json_.at(key).is_array()) return {integer(key, 0, -1)};
  std::vector<std::int64_t> result;
  for (const nlohmann::json& value : json_.at(key)) {
    if (!value.is_number_integer()) fail(key, "expected whole numbers");
    result.push_back(value.get<std::int64_t>());
  }
  return result;
}

ConfigFields ConfigFields::section(const std::string& key) const {
  if (!has(key)) return {empty_object(), name_ + ": " + key};
  if (!json_.at(key).is_object()) fail(key, "expected an object");
  return {json_.at(key), name_ + ": " + key};
}

}  // namespace deepscale
