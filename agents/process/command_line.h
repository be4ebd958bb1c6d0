// Windows hands a program one string, not an argument vector; this is how a vector becomes that string.
//
// The rules are those of CommandLineToArgvW and the Microsoft C runtime (Microsoft, "Parsing C command-line
// arguments"): spaces and tabs separate, double quotes group, backslashes escape only in front of a quote.
// Pure functions on UTF-8 text, on every platform.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deepscale {

// `argument` as one word of a command line; unchanged when it needs no quotes.
std::string quote_windows_argument(std::string_view argument);

// The whole line. `program` is always quoted: its own parsing knows no escapes, so it must not hold a quote
// (no Windows path can).
std::string windows_command_line(std::string_view program, const std::vector<std::string>& arguments);

}  // namespace deepscale
