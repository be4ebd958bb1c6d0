// The members of one step of a tokenizer.json. Internal to runtime/tokenizer.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/pretrained/config_fields.h"

namespace deepscale {

inline constexpr const char* kMetaspace = "\xE2\x96\x81";  // U+2581, which stands for a space

// Error(kUnsupported) that names the part and those that are known.
[[noreturn]] void refuse_part(const std::string& where, const std::string& type,
                              const std::vector<std::string>& known);

// The maker of a step by its "type".
template <typename Step>
using StepMakers = std::map<std::string, Step (*)(const nlohmann::json&, const std::string& where)>;

template <typename Step>
Step make_step(const nlohmann::json& json, const std::string& where, const StepMakers<Step>& makers) {
  if (!json.is_object()) refuse_part(where, json.dump(), {});
  const std::string type = ConfigFields(json, where).text("type", "");
  const auto maker = makers.find(type);
  if (maker != makers.end()) return maker->second(json, where);
  std::vector<std::string> known;
  for (const auto& [name, ignored] : makers) known.push_back(name);
  refuse_part(where, type, known);
}

// A list of steps under this key, each made by `make`.
template <typename Step>
std::vector<Step> make_steps(const nlohmann::json& json, const char* key, const std::string& where,
                             Step (*make)(const nlohmann::json&, const std::string&)) {
  const ConfigFields fields(json, where);
  const auto list = json.find(key);
  if (list == json.end() || !list->is_array()) fields.fail(key, "expected a list");
  std::vector<Step> steps;
  for (const nlohmann::json& one : *list) steps.push_back(make(one, where + ": " + key));
  return steps;
}

// {"String": ...} or {"Regex": ...} as either's text; `is_regex` says which.
std::string read_pattern_text(const nlohmann::json& json, const std::string& where, bool& is_regex);

// Each `from` in the text becomes `to`.
std::string replace_all(const std::string& text, const std::string& from, const std::string& to);

}  // namespace deepscale
