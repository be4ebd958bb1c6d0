// What rank and agent say to each other as bytes, the order in which a rank says it, and the agent's address.
#include "agents/link/link_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "agents/link/link_address.h"
#include "agents/link/outbox.h"
#include "comm/base/error.h"

namespace deepscale {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<LinkMessage> parse_all(std::string_view bytes, std::size_t piece = 1000) {
  LinkParser parser;
  std::vector<LinkMessage> messages;
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    while (auto message = parser.next(part)) messages.push_back(*std::move(message));
  }
  return messages;
}

std::string refusal_of(std::string_view bytes) {
  try {
    parse_all(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kProtocol);
    return error.what();
  }
  return "";
}

TEST(LinkMessage, ComesBackFromItsBytesInPiecesOfAnySize) {
  const std::vector<LinkMessage> messages = {
      {LinkKind::kHello, 7, "token"},
      {LinkKind::kHeartbeat, std::numeric_limits<std::int64_t>::min(), ""},
      {LinkKind::kAlive, 0, ""},
      {LinkKind::kFailure, static_cast<std::int64_t>(RankFailure::kOutOfMemory), std::string("a\0b\n", 4)},
      {LinkKind::kStop, static_cast<std::int64_t>(LinkStop::kFailure), ""},
      {LinkKind::kRefused, 0, "why"}};
  std::string bytes;
  for (const LinkMessage& message : messages) bytes += encode_link_message(message);
  for (std::size_t piece = 1; piece < bytes.size(); ++piece) EXPECT_EQ(parse_all(bytes, piece), messages);
}

TEST(LinkMessage, ATextThatIsTooLongIsCut) {
  const auto messages = parse_all(encode_link_message({LinkKind::kFailure, 0, std::string(100'000, 'x')}));
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].text, std::string(kMaxLinkTextBytes, 'x'));
}

TEST(LinkParser, RefusesWhatNoPeerSays) {
  const std::string heartbeat = encode_link_message({LinkKind::kHeartbeat, 1, ""});
  std::string bytes = heartbeat;
  bytes[0] = 'G';
  EXPECT_THAT(refusal_of(bytes), HasSubstr("71 is no kind of message"));
  bytes = heartbeat;
  bytes[1] = 2;
  EXPECT_THAT(refusal_of(bytes), HasSubstr("version 2"));
  bytes = heartbeat;
  bytes[2] = 1;
  EXPECT_THAT(refusal_of(bytes), HasSubstr("a text of 1 bytes"));
  EXPECT_THAT(refusal_of(encode_link_message({LinkKind::kFailure, kRankFailures, ""})),
              HasSubstr("number 5"));
  EXPECT_THAT(refusal_of(encode_link_message({LinkKind::kStop, -1, ""})), HasSubstr("number -1"));
  EXPECT_THAT(refusal_of(encode_link_message({LinkKind::kHello, 0, std::string(65, 'x')})),
              HasSubstr("a text of 65 bytes"));
}

// It does not wait for a text that will be refused.
TEST(LinkParser, RefusesByTheHeaderAlone) {
  std::string header = encode_link_message({LinkKind::kFailure, 0, ""});
  header[2] = header[3] = static_cast<char>(0xff);
  EXPECT_THAT(refusal_of(header), HasSubstr("65535"));
}

std::vector<LinkMessage> sent_by(const std::vector<LinkMessage>& messages) {
  LinkOutbox outbox;
  for (const LinkMessage& message : messages) outbox.add(message);
  const auto sent = parse_all(outbox.take());
  EXPECT_TRUE(outbox.is_empty());
  return sent;
}

TEST(LinkOutbox, KeepsTheLastOfSeveralHeartbeats) {
  EXPECT_THAT(
      sent_by({{LinkKind::kHeartbeat, 1, ""}, {LinkKind::kHeartbeat, 2, ""}, {LinkKind::kHeartbeat, 3, ""}}),
      ElementsAre(LinkMessage{LinkKind::kHeartbeat, 3, ""}));
  EXPECT_THAT(sent_by({{LinkKind::kHeartbeat, 1, ""}, {LinkKind::kRest, 0, ""}}),
              ElementsAre(LinkMessage{LinkKind::kRest, 0, ""}));
  EXPECT_THAT(sent_by({{LinkKind::kHeartbeat, 1, ""}, {LinkKind::kAlive, 0, ""}}),
              ElementsAre(LinkMessage{LinkKind::kHeartbeat, 1, ""}));
}

// A heartbeat takes a failure back, so one from before it must not arrive after it.
TEST(LinkOutbox, NothingOvertakesAFailureAndItIsNeverDropped) {
  const LinkMessage failure = {LinkKind::kFailure, 0, "why"};
  EXPECT_THAT(sent_by({{LinkKind::kHeartbeat, 1, ""}, failure}),
              ElementsAre(LinkMessage{LinkKind::kHeartbeat, 1, ""}, failure));
  EXPECT_THAT(sent_by({{LinkKind::kHeartbeat, 1, ""}, failure, failure, {LinkKind::kHeartbeat, 2, ""}}),
              ElementsAre(LinkMessage{LinkKind::kHeartbeat, 1, ""}, failure, failure,
                          LinkMessage{LinkKind::kHeartbeat, 2, ""}));
}

TEST(LinkAddress, ComesBackFromItsText) {
  const auto address = LinkAddress::parse("127.0.0.1:41234/abc");
  EXPECT_EQ(address.host, "127.0.0.1");
  EXPECT_EQ(address.port, 41234);
  EXPECT_EQ(address.token, "abc");
  EXPECT_EQ(LinkAddress::parse(LinkAddress{"::1", 5, "t"}.text()).host, "::1");
}

TEST(LinkAddress, RefusesOtherTextsAndKeepsTheSecret) {
  for (const char* text : {"", "x", "127.0.0.1:1", "127.0.0.1/secret", "127.0.0.1:0/secret",
                           "127.0.0.1:70000/secret", "127.0.0.1:1x/secret", ":1/secret", "127.0.0.1:1/"}) {
    try {
      LinkAddress::parse(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), ::testing::Not(HasSubstr("secret")));
    }
  }
}

TEST(LinkToken, IsNewEachTimeAndCompared) {
  const std::string token = new_link_token();
  EXPECT_EQ(token.size(), 32U);
  EXPECT_NE(token, new_link_token());
  EXPECT_TRUE(is_same_secret(token, std::string(token)));
  EXPECT_FALSE(is_same_secret(token, token.substr(1)));
  EXPECT_FALSE(is_same_secret("ab", "aa"));
  EXPECT_FALSE(is_same_secret("", "a"));
}

}  // namespace
}  // namespace deepscale
