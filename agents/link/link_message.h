// What a rank and the agent of its node say to each other, as bytes and back.
//
// A message is a header of 12 bytes and a text: its kind (1 byte), the version of the protocol (1), the
// length of the text (2), a number (8); integers are little-endian. A rank says hello first, and the agent
// answers with a welcome, or with a refusal that says why.
//
//   rank to agent                                         agent to rank
//   kHello         number: generation, text: token        kWelcome
//   kHeartbeat     number: steps done                     kRefused          text: why
//   kAlive         (nothing new, but the process runs)    kStop             number: LinkStop
//   kRest          (no step is to be expected for now)    kFailureReceived
//   kWatchesStop   (it asks stop_requested())             kDumpStacks
//   kFailure       number: RankFailure, text: message
//
// Pure: no sockets, no clock, no threads. The parser takes bytes from outside: it holds at most one message,
// and refuses what no peer of this version says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace deepscale {

enum class LinkKind : std::uint8_t {
  kHello,
  kHeartbeat,
  kAlive,
  kRest,
  kWatchesStop,
  kFailure,
  kWelcome,
  kRefused,
  kStop,
  kFailureReceived,
  kDumpStacks,
};
inline constexpr int kLinkKinds = 11;

// Why a rank cannot go on, in its own words.
enum class RankFailure : std::uint8_t {
  kException,          // an error that nobody handled
  kCuda,               // the device or its driver
  kCollectiveTimeout,  // the other ranks did not come
  kPeerLost,           // another rank has gone: a consequence, not a cause
  kOutOfMemory,
};
inline constexpr int kRankFailures = 5;

// Why a rank is to stop.
enum class LinkStop : std::uint8_t {
  kRequested,  // from outside: there is time to save and leave
  kFailure,    // another rank has failed
};
inline constexpr int kLinkStops = 2;

inline constexpr std::uint8_t kLinkVersion = 1;
inline constexpr std::size_t kLinkHeaderBytes = 12;
inline constexpr std::size_t kMaxLinkTextBytes = 4096;

struct LinkMessage {
  LinkKind kind = LinkKind::kAlive;
  std::int64_t number = 0;
  std::string text;
  bool operator==(const LinkMessage&) const = default;
};

bool is_from_rank(LinkKind kind);

// A text beyond kMaxLinkTextBytes is cut.
std::string encode_link_message(const LinkMessage& message);

class LinkParser {
 public:
  // Takes bytes from the front of `input` up to the end of one message and returns it; nothing when `input`
  // ran out before. Error(kProtocol) as soon as no message can come of what was read; the stream cannot be
  // read any further then.
  std::optional<LinkMessage> next(std::string_view& input);

 private:
  // Until `bytes_` has that many.
  bool fill(std::string_view& input, std::size_t size);

  std::string bytes_;  // of the message being read
};

}  // namespace deepscale
