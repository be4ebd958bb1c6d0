#include "launcher/run/out_of_memory.h"

#include <charconv>

namespace deepscale {

std::optional<bool> names_killed_process(std::string_view record, std::int64_t pid,
                                         std::chrono::microseconds since) {
  constexpr std::string_view kKilled = "Killed process ";
  const auto semicolon = record.find(';');
  if (semicolon == std::string_view::npos) return std::nullopt;
  std::string_view head = record.substr(0, semicolon);
  for (int field = 0; field < 2; ++field) {  // priority, sequence number
    const auto comma = head.find(',');
    if (comma == std::string_view::npos) return std::nullopt;
    head.remove_prefix(comma + 1);
  }
  std::int64_t microseconds = 0;
  std::from_chars(head.data(), head.data() + head.size(), microseconds);
  const std::string_view text = record.substr(semicolon + 1);
  const auto killed = text.find(kKilled);
  const bool is_for_memory =
      text.find("ut of memory") < killed;  // "Out of memory:", "Memory cgroup out of memory:"
  if (std::chrono::microseconds(microseconds) < since || killed == std::string_view::npos || !is_for_memory)
    return std::nullopt;
  std::int64_t named = 0;
  const std::string_view number = text.substr(killed + kKilled.size());
  std::from_chars(number.data(), number.data() + number.size(), named);
  return named == pid;
}

}  // namespace deepscale
