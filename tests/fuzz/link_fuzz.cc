// Any bytes on the link between a rank and its agent, in any pieces: each message is one that its rules allow
// and is encoded as it came, or the stream ends with an Error; and no piece is held beyond one message.
//
// The input is a list of pieces: how long (1 byte), the bytes. All of it is also an address of an agent.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agents/link/link_address.h"
#include "agents/link/link_message.h"
#include "agents/link/outbox.h"
#include "comm/base/error.h"
#include "tests/fuzz/require.h"

namespace deepscale::testing {
namespace {

void check(const LinkMessage& message) {
  require(message.text.size() <= kMaxLinkTextBytes, "a text is bounded");
  require(static_cast<int>(message.kind) < kLinkKinds, "a kind is one of ours");
  if (message.kind == LinkKind::kFailure)
    require(message.number >= 0 && message.number < kRankFailures, "a failure is one of ours");
  if (message.kind == LinkKind::kStop)
    require(message.number >= 0 && message.number < kLinkStops, "a reason to stop is one of ours");
  const std::string bytes = encode_link_message(message);
  std::string_view rest = bytes;
  require(LinkParser().next(rest) == message && rest.empty(), "an encoded message is read as it was");
}

void parse_pieces(std::string_view input) {
  LinkParser parser;
  LinkOutbox outbox;
  std::size_t failures = 0;
  try {
    while (!input.empty()) {
      const auto length = static_cast<std::uint8_t>(input[0]);
      input.remove_prefix(1);
      std::string_view piece = input.substr(0, length);
      input.remove_prefix(piece.size());
      while (auto message = parser.next(piece)) {
        check(*message);
        failures += message->kind == LinkKind::kFailure;
        outbox.add(*std::move(message));
      }
      require(piece.empty(), "a parser takes all that there is");
    }
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kProtocol, "what is no message is an error of the protocol");
  }
  const std::string sent = outbox.take();
  std::string_view rest = sent;
  LinkParser receiver;
  while (const auto message = receiver.next(rest)) failures -= message->kind == LinkKind::kFailure;
  require(failures == 0 && rest.empty(), "no failure is dropped on the way");
}

void parse_address(std::string_view text) {
  try {
    const LinkAddress address = LinkAddress::parse(text);
    const LinkAddress again = LinkAddress::parse(address.text());
    require(again.host == address.host && again.port == address.port && again.token == address.token,
            "an address is read as it was written");
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kInvalidArgument, "what is no address is the caller's mistake");
  }
}

}  // namespace
}  // namespace deepscale::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  deepscale::testing::parse_pieces(input);
  deepscale::testing::parse_address(input);
  return 0;
}
