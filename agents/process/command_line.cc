#include "agents/process/command_line.h"

namespace deepscale {

std::string quote_windows_argument(std::string_view argument) {
  if (!argument.empty() && argument.find_first_of(" \t\n\v\"") == std::string_view::npos) {
    return std::string(argument);
  }
  std::string quoted = "\"";
  std::size_t backslashes = 0;
  for (const char c : argument) {
    if (c == '\\') {
      ++backslashes;
      continue;
    }
    // Backslashes in front of a quote count double, and one more escapes the quote itself.
    quoted.append(c == '"' ? 2 * backslashes + 1 : backslashes, '\\');
    quoted += c;
    backslashes = 0;
  }
  quoted.append(2 * backslashes, '\\');
  return quoted + '"';
}

std::string windows_command_line(std::string_view program, const std::vector<std::string>& arguments) {
  std::string line = '"' + std::string(program) + '"';
  for (const std::string& argument : arguments) line += ' ' + quote_windows_argument(argument);
  return line;
}

}  // namespace deepscale
