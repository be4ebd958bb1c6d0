#include "comm/base/environment.h"

#include <fmt/core.h>

#include <charconv>

#include "comm/base/error.h"

namespace deepscale {

std::optional<std::string> Environment::get(std::string_view name) const {
  const auto found = variables_.find(name);
  if (found == variables_.end()) return std::nullopt;
  return found->second;
}

std::string Environment::get_or(std::string_view name, std::string_view fallback) const {
  const auto found = variables_.find(name);
  return found == variables_.end() ? std::string(fallback) : found->second;
}

std::optional<std::int64_t> Environment::get_integer(std::string_view name) const {
  const auto found = variables_.find(name);
  if (found == variables_.end() || found->second.empty()) return std::nullopt;
  const std::string& text = found->second;
  std::int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("environment variable {}='{}' is not a whole number; unset it or correct it",
                            name, text));
  }
  return value;
}

void Environment::set(std::string_view name, std::string_view value) {
  variables_.insert_or_assign(std::string(name), std::string(value));
}

void Environment::set_if_absent(std::string_view name, std::string_view value) {
  variables_.try_emplace(std::string(name), value);
}

void Environment::remove(std::string_view name) {
  const auto found = variables_.find(name);
  if (found != variables_.end()) variables_.erase(found);
}

}  // namespace deepscale
