#include "runtime/config/json_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "comm/base/error.h"

namespace deepscale {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 64;

// The index after the text that begins with the quote at `begin`; the end of `text` when it is not closed.
std::size_t end_of_quoted(std::string_view text, std::size_t begin) {
  for (std::size_t i = begin + 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      return i + 1;
    }
  }
  return text.size();
}

// The index after the comment that begins at `begin`, or `begin` when none does.
std::size_t end_of_comment(std::string_view text, std::size_t begin) {
  const std::string_view rest = text.substr(begin);
  if (rest.starts_with('#') || rest.starts_with("//")) return std::min(text.find('\n', begin), text.size());
  if (!rest.starts_with("/*")) return begin;
  const std::size_t close = text.find("*/", begin + 2);
  // An open comment stays, and the JSON parser complains about it at the right place.
  return close == std::string_view::npos ? begin : close + 2;
}

struct Position {
  std::size_t line;
  std::size_t column;
  std::string_view line_text;
};

Position position_of(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const std::size_t newline = before.rfind('\n');
  const std::size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
  std::string_view line = text.substr(line_begin, text.find('\n', line_begin) - line_begin);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return {.line = static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1,
          .column = offset - line_begin + 1,
          .line_text = line};
}

// nlohmann's message begins with its own name for the error and position, up to the first colon or bracket.
std::string reason_of(const Json::exception& error) {
  std::string reason = error.what();
  const std::size_t colon = reason.find(": ");
  const std::size_t bracket = reason.find("] ");
  if (colon != std::string::npos) {
    reason.erase(0, colon + 2);
  } else if (bracket != std::string::npos) {
    reason.erase(0, bracket + 2);
  }
  return reason;
}

// What people usually did when the parser says so.
const char* likely_mistake(std::string_view reason) {
  const auto says = [&](std::string_view words) { return reason.find(words) != std::string_view::npos; };
  if (says("unexpected string literal")) return " (is a comma missing before it?)";
  if (says("invalid literal"))
    return " (keys and texts need double quotes; true, false and null are lower case)";
  if (says("unexpected end of input")) return " (is a bracket not closed?)";
  return "";
}

[[noreturn]] void fail_malformed(std::string_view text, std::string_view source,
                                 const Json::parse_error& error) {
  const Position at = position_of(text, error.byte > 0 ? error.byte - 1 : 0);
  const std::string reason = reason_of(error);
  constexpr std::size_t kLongestLine = 120;
  std::string line(at.line_text.substr(0, kLongestLine));
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < ' ' || c == 0x7F; }, ' ');
  if (at.line_text.size() > kLongestLine) line += " ...";
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: line {}, column {}: malformed JSON: {}{}; the line is: {}", source, at.line,
                          at.column, reason, likely_mistake(reason), line));
}

// Follows the parser through the text to know each key's path, since the tree itself keeps only the last of
// equal keys.
class KeyWatcher {
 public:
  explicit KeyWatcher(std::string_view source) : source_(source) {}

  void on(int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMaxDepth) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: nested more than {} levels deep", source_, kMaxDepth));
    }
    switch (event) {
      case Json::parse_event_t::object_start:
        open_.push_back({});
        break;
      case Json::parse_event_t::object_end:
        open_.pop_back();
        break;
      case Json::parse_event_t::key:
        on_key(parsed.get_ref<const std::string&>());
        break;
      default:
        break;
    }
  }

 private:
  struct Object {
    std::set<std::string> keys;
    std::string current;
  };

  void on_key(const std::string& key) {
    open_.back().current = key;
    if (open_.back().keys.insert(key).second) return;
    std::string path;
    for (const Object& object : open_) path += (path.empty() ? "" : ".") + object.current;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {}: the key occurs twice; remove one", source_, path));
  }

  std::string_view source_;
  std::vector<Object> open_;
};

}  // namespace

std::string blank_comments(std::string_view text) {
  std::string blanked(text);
  std::size_t comma = std::string::npos;  // the last one after which only space and comments came
  for (std::size_t i = 0; i < text.size();) {
    if (const std::size_t end = end_of_comment(text, i); end != i) {
      std::replace_if(
          blanked.begin() + static_cast<std::ptrdiff_t>(i),
          blanked.begin() + static_cast<std::ptrdiff_t>(end), [](char c) { return c != '\n' && c != '\r'; },
          ' ');
      i = end;
    } else if (text[i] == '"') {
      comma = std::string::npos;
      i = end_of_quoted(text, i);
    } else {
      const char c = text[i++];
      if (c == ',') {
        // Of two commas in a row the second one is a mistake, not a trailing comma.
        comma = comma == std::string::npos ? i - 1 : std::string::npos;
      } else if (c == '}' || c == ']') {
        if (comma != std::string::npos) blanked[comma] = ' ';
        comma = std::string::npos;
      } else if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
        comma = std::string::npos;
      }
    }
  }
  return blanked;
}

Json parse_json_text(std::string_view text, std::string_view source) {
  const std::string blanked = blank_comments(text);
  if (blanked.find_first_not_of(" \t\r\n") == std::string::npos) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: the text is empty; the least is {{\"train_batch_size\": 1}}", source));
  }
  KeyWatcher watcher(source);
  Json json;
  try {
    json = Json::parse(blanked, [&](int depth, Json::parse_event_t event, Json& parsed) {
      watcher.on(depth, event, parsed);
      return true;
    });
  } catch (const Json::parse_error& error) {
    fail_malformed(text, source, error);
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: malformed JSON: {}", source, reason_of(error)));
  }
  if (!json.is_object()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: expected an object, {{ ... }}, got {}", source, json.type_name()));
  }
  return json;
}

}  // namespace deepscale
