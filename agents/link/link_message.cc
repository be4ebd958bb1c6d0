#include "agents/link/link_message.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "comm/base/error.h"

namespace deepscale {
namespace {

struct Rule {
  std::size_t max_text_bytes;
  std::int64_t least;  // number
  std::int64_t most;
};

constexpr std::int64_t kAnyLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kAnyMost = std::numeric_limits<std::int64_t>::max();

// By LinkKind.
constexpr std::array<Rule, kLinkKinds> kRules = {{
    {64, 0, std::numeric_limits<std::int32_t>::max()},  // kHello
    {0, kAnyLeast, kAnyMost},                           // kHeartbeat
    {0, 0, 0},                                          // kAlive
    {0, 0, 0},                                          // kRest
    {0, 0, 0},                                          // kWatchesStop
    {kMaxLinkTextBytes, 0, kRankFailures - 1},          // kFailure
    {0, 0, 0},                                          // kWelcome
    {kMaxLinkTextBytes, 0, 0},                          // kRefused
    {0, 0, kLinkStops - 1},                             // kStop
    {0, 0, 0},                                          // kFailureReceived
    {0, 0, 0},                                          // kDumpStacks
}};

std::uint64_t read_integer(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return value;
}

void append_integer(std::string& out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kProtocol, "the link between a rank and its agent: " + what);
}

// The length of the text that follows.
std::size_t check_header(std::string_view header) {
  const auto kind = static_cast<unsigned char>(header[0]);
  const auto version = static_cast<unsigned char>(header[1]);
  if (kind >= kLinkKinds) refuse(fmt::format("{} is no kind of message", kind));
  if (version != kLinkVersion)
    refuse(fmt::format("the peer speaks version {}, and this build version {}", version, kLinkVersion));
  const Rule& rule = kRules[kind];
  const std::size_t text_bytes = read_integer(header.substr(2, 2));
  const auto number = static_cast<std::int64_t>(read_integer(header.substr(4, 8)));
  if (text_bytes > rule.max_text_bytes)
    refuse(fmt::format("a text of {} bytes in a message of kind {}", text_bytes, kind));
  if (number < rule.least || number > rule.most)
    refuse(fmt::format("the number {} in a message of kind {}", number, kind));
  return text_bytes;
}

}  // namespace

bool is_from_rank(LinkKind kind) {
  return kind < LinkKind::kWelcome;
}

std::string encode_link_message(const LinkMessage& message) {
  const std::size_t text_bytes = std::min(message.text.size(), kMaxLinkTextBytes);
  std::string out;
  out.reserve(kLinkHeaderBytes + text_bytes);
  out.push_back(static_cast<char>(message.kind));
  out.push_back(static_cast<char>(kLinkVersion));
  append_integer(out, text_bytes, 2);
  append_integer(out, static_cast<std::uint64_t>(message.number), 8);
  out.append(message.text, 0, text_bytes);
  return out;
}

bool LinkParser::fill(std::string_view& input, std::size_t size) {
  const std::size_t taken = std::min(input.size(), size - std::min(size, bytes_.size()));
  bytes_.append(input.substr(0, taken));
  input.remove_prefix(taken);
  return bytes_.size() >= size;
}

std::optional<LinkMessage> LinkParser::next(std::string_view& input) {
  if (!fill(input, kLinkHeaderBytes)) return std::nullopt;
  const std::size_t text_bytes = check_header(bytes_);
  if (!fill(input, kLinkHeaderBytes + text_bytes)) return std::nullopt;
  LinkMessage message;
  message.kind = static_cast<LinkKind>(bytes_[0]);
  message.number = static_cast<std::int64_t>(read_integer(std::string_view(bytes_).substr(4, 8)));
  message.text = bytes_.substr(kLinkHeaderBytes);
  bytes_.clear();
  return message;
}

}  // namespace deepscale
