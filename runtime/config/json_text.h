// From the text of a ds_config.json to a JSON tree.
//
// Accepts comments (#, //, /* */) and trailing commas, as DeepSpeed's reader does; not hjson's unquoted keys
// and texts. Comments are blanked out in place first, so that positions in messages are those of the file.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace deepscale {

// The text with comments and trailing commas replaced by spaces; newlines stay, and so does its length. Never
// fails.
std::string blank_comments(std::string_view text);

// Error(kInvalidArgument), which begins with `source`, for an empty text, malformed JSON (with line, column
// and the line), a key that occurs twice in one object (with its path), too deep a nesting, or a value that
// is not an object.
nlohmann::ordered_json parse_json_text(std::string_view text, std::string_view source);

}  // namespace deepscale
