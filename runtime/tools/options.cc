#include "runtime/tools/options.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "comm/base/error.h"
#include "comm/base/suggest.h"

namespace deepscale {
namespace {

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

bool is_among(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// A number and what stands behind it; the number is not finite when there is none.
std::pair<double, std::string> split_number(const std::string& text) {
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc()) return {std::nan(""), text};
  return {value, text.substr(static_cast<std::size_t>(end - text.data()))};
}

constexpr double kMostCount = 9e15;  // whole numbers up to here are exact

}  // namespace

ToolOptions::ToolOptions(const std::vector<std::string>& words, Known known) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() < 2 || word[0] != '-') {
      words_.push_back(word);
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string name = folded(word.substr(0, equals), known);
    if (is_among(known.switches, name)) {
      if (equals != std::string::npos) fail(fmt::format("--{} is a switch and takes no value.", name));
      values_[name] = "";
    } else if (equals != std::string::npos) {
      values_[name] = word.substr(equals + 1);
    } else if (i + 1 < words.size()) {
      values_[name] = words[++i];
    } else {
      fail(fmt::format("--{} needs a value.", name));
    }
  }
}

std::string ToolOptions::folded(const std::string& word, const Known& known) const {
  std::string name = word.substr(word.rfind("--", 0) == 0 ? 2 : 1);
  std::replace(name.begin(), name.end(), '-', '_');
  if (is_among(known.switches, name) || is_among(known.with_value, name)) return name;
  std::vector<std::string> all = known.with_value;
  all.insert(all.end(), known.switches.begin(), known.switches.end());
  fail(fmt::format("unknown option {}.{}", word, did_you_mean(name, all)));
}

std::string ToolOptions::text(const std::string& name, const std::string& otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : found->second;
}

std::int64_t ToolOptions::count(const std::string& name, std::int64_t otherwise, std::int64_t least) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return otherwise;
  const auto [value, rest] = split_number(found->second);
  if (!rest.empty() || value != std::floor(value) || value < static_cast<double>(least) ||
      value > kMostCount) {
    fail(fmt::format("--{}: \"{}\" is not a whole number from {} up.", name, found->second, least));
  }
  return static_cast<std::int64_t>(value);
}

std::int64_t ToolOptions::bytes(const std::string& name, std::int64_t otherwise) const {
  static const std::map<std::string, double> units = {
      {"", 1},     {"B", 1},        {"KB", 1e3},        {"MB", 1e6},
      {"GB", 1e9}, {"KIB", 1024.0}, {"MIB", 1048576.0}, {"GIB", 1073741824.0}};
  const auto found = values_.find(name);
  if (found == values_.end()) return otherwise;
  auto [value, unit] = split_number(found->second);
  std::transform(unit.begin(), unit.end(), unit.begin(), [](char letter) {
    return letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 32) : letter;
  });
  const auto factor = units.find(unit);
  if (factor == units.end() || !(value * factor->second >= 1) || value * factor->second > kMostCount) {
    fail(fmt::format("--{}: \"{}\" is not a size; write 5GB, 200MB or a number of bytes.", name,
                     found->second));
  }
  return static_cast<std::int64_t>(value * factor->second);
}

}  // namespace deepscale
