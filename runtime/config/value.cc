#include "runtime/config/value.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "comm/base/error.h"
#include "comm/base/suggest.h"

namespace deepscale {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

const char* described(ValueType type) {
  switch (type) {
    case ValueType::kBool:
      return "true or false";
    case ValueType::kInteger:
      return "a whole number";
    case ValueType::kNumber:
      return "a number";
    case ValueType::kText:
      return "a text in quotes";
    case ValueType::kObject:
      return "an object, { ... }";
    case ValueType::kAny:
      return "a value";
  }
  return "a value";
}

// 2^63; every whole double below it fits.
constexpr double kIntegerLimit = 9223372036854775808.0;

}  // namespace

bool Value::is(ValueType type) const {
  switch (type) {
    case ValueType::kBool:
      return json_.is_boolean();
    case ValueType::kInteger: {
      if (json_.is_number_unsigned())
        return json_.get<std::uint64_t>() <= static_cast<std::uint64_t>(kAnyInteger);
      if (json_.is_number_integer()) return true;
      if (!json_.is_number_float()) return false;
      const double number = json_.get<double>();
      return std::trunc(number) == number && std::abs(number) < kIntegerLimit;
    }
    case ValueType::kNumber:
      return json_.is_number();
    case ValueType::kText:
      return json_.is_string();
    case ValueType::kObject:
      return json_.is_object();
    case ValueType::kAny:
      return true;
  }
  return false;
}

bool Value::is_null() const {
  return json_.is_null();
}
bool Value::is_auto() const {
  return json_.is_string() && json_.get_ref<const std::string&>() == "auto";
}
bool Value::is_empty() const {
  return json_.is_structured() && json_.empty();
}

void Value::expect(ValueType type) const {
  if (!is(type)) fail(fmt::format("expected {}, got {}", described(type), shown()));
}

bool Value::as_bool() const {
  expect(ValueType::kBool);
  return json_.get<bool>();
}

std::int64_t Value::as_integer(std::int64_t least, std::int64_t most) const {
  expect(ValueType::kInteger);
  const std::int64_t number =
      json_.is_number_float() ? static_cast<std::int64_t>(json_.get<double>()) : json_.get<std::int64_t>();
  if (number >= least && number <= most) return number;
  if (most == kAnyInteger) fail(fmt::format("expected at least {}, got {}", least, shown()));
  fail(fmt::format("expected {}..{}, got {}", least, most, shown()));
}

double Value::as_number(double least, double most) const {
  expect(ValueType::kNumber);
  const double number = json_.get<double>();
  if (number >= least && number <= most) return number;
  if (least == kAboveZero) fail(fmt::format("expected a number above 0, got {}", shown()));
  if (most == kAnyNumber) fail(fmt::format("expected at least {}, got {}", least, shown()));
  fail(fmt::format("expected {}..{}, got {}", least, most, shown()));
}

std::string Value::as_text() const {
  expect(ValueType::kText);
  return json_.get<std::string>();
}

std::vector<Value> Value::as_list() const {
  if (!json_.is_array()) fail(fmt::format("expected a list, [ ... ], got {}", shown()));
  std::vector<Value> values;
  for (const auto& json : json_)
    values.emplace_back(json, fmt::format("{}[{}]", path_, values.size()), document_);
  return values;
}

Value Value::member(const std::string& name, const nlohmann::ordered_json& json) const {
  return {json, path_.empty() ? name : path_ + "." + name, document_};
}

std::optional<Value> Value::find(const std::string& name) const {
  const auto found = json_.is_object() ? json_.find(name) : json_.end();
  if (found == json_.end()) return std::nullopt;
  const Value value = member(name, *found);
  if (value.is_null() || value.is_auto()) return std::nullopt;
  return value;
}

Value Value::member_or_empty(const std::string& name) const {
  static const nlohmann::ordered_json kEmpty = nlohmann::ordered_json::object();
  return find(name).value_or(member(name, kEmpty));
}

bool Value::has(const std::string& name) const {
  const auto found = json_.is_object() ? json_.find(name) : json_.end();
  return found != json_.end() && !found->is_null();
}

void Value::read_section(const std::vector<Key>& keys) const {
  read_members(keys, [](const Value& value, const std::string& hint) { value.fail("unknown key." + hint); });
}

void Value::read_top_level(const std::vector<Key>& keys) const {
  read_members(keys, [this](const Value& value, const std::string& hint) {
    if (context().strict) value.fail("unknown key." + hint);
    value.warn("unknown key, ignored." + hint);
  });
}

void Value::read_members(const std::vector<Key>& keys,
                         const std::function<void(const Value&, const std::string&)>& on_unknown) const {
  expect(ValueType::kObject);
  std::map<std::string, const Key*> by_name;
  std::vector<std::string> names;
  for (const Key& key : keys) {
    by_name[key.name] = &key;
    for (const std::string& alias : key.aliases) by_name[alias] = &key;
  }
  for (const auto& [name, key] : by_name) names.push_back(name);

  std::map<const Key*, std::string> seen;
  for (const auto& [name, json] : json_.items()) {
    const Value value = member(name, json);
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      on_unknown(value, did_you_mean(name, names));
      continue;
    }
    const Key& key = *found->second;
    if (const auto [first, is_first] = seen.emplace(&key, name); !is_first) {
      value.fail(fmt::format("means the same as {}, which is there too; remove one", first->second));
    }
    if (value.is_null()) continue;
    if (!value.is_auto()) {
      key.read(value);
    } else if (key.on_auto) {
      key.on_auto();
    }
  }
}

void Value::fail(const std::string& message) const {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}: {}", document_.source, path_, message));
}

void Value::not_here(const std::string& feature, const std::string& remedy) const {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: {}: {} is not in this version of DeepScale; {} (it is {})", document_.source,
                          path_, feature, remedy, shown()));
}

void Value::warn(const std::string& message) const {
  document_.warnings.push_back(fmt::format("{}: {}: {}", document_.source, path_, message));
}

std::string Value::shown() const {
  constexpr std::size_t kLongest = 40;
  // In ASCII, so that the cut cannot go through a character.
  std::string text = json_.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

ValueReader boolean(bool& out) {
  return [&out](const Value& value) { out = value.as_bool(); };
}

ValueReader text(std::string& out) {
  return [&out](const Value& value) { out = value.as_text(); };
}

std::size_t choose(const Value& value, const std::vector<std::string>& names) {
  const std::string given = value.as_text();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (lower(names[i]) == lower(given)) return i;
  }
  value.fail(fmt::format("expected one of {}, got {}.{}", fmt::join(names, ", "), value.shown(),
                         did_you_mean(given, names)));
}

ValueReader accepted(ValueType type) {
  return [type](const Value& value) { value.expect(type); };
}

ValueReader off_only(std::string feature) {
  return [feature = std::move(feature)](const Value& value) {
    if (value.as_bool()) value.not_here(feature);
  };
}

ValueReader off_or_warn(std::string feature) {
  return [feature = std::move(feature)](const Value& value) {
    if (value.as_bool()) value.warn(feature + " is not in this version of DeepScale; ignored");
  };
}

}  // namespace deepscale
