// The members of a JSON object of a config.json by key and type. Internal to runtime/pretrained.
//
// A missing member and null give the fallback. A member of another type or out of range is
// Error(kInvalidArgument) that names file and key. The object outlives the fields.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace deepscale {

class ConfigFields {
 public:
  ConfigFields(const nlohmann::json& json, std::string name) : json_(json), name_(std::move(name)) {}

  bool has(const std::string& key) const;
  bool is_empty(const std::string& key) const;  // {} or [], or not there
  std::int64_t integer(const std::string& key, std::int64_t fallback, std::int64_t least = 0) const;
  std::int64_t required(const std::string& key) const;  // at least 1
  double number(const std::string& key, double fallback) const;
  bool boolean(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  std::vector<double> numbers(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;
  std::vector<std::int64_t> integer_or_list(const std::string& key) const;
  ConfigFields section(const std::string& key) const;  // empty where it is not there

  [[noreturn]] void fail(const std::string& key, const std::string& why) const;  // kInvalidArgument
  [[noreturn]] void unsupported(const std::string& key, const std::string& why) const;

 private:
  const nlohmann::json& json_;
  std::string name_;
};

}  // namespace deepscale
