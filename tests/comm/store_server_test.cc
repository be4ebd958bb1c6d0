#include "comm/store/store_server.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <functional>

#include "comm/base/error.h"
#include "comm/store/connection.h"
#include "comm/store/store.h"
#include "comm/store/wire.h"
#include "tests/refusal.h"

namespace deepscale {
namespace {

using namespace std::chrono_literals;
using Kind = StoreQueryKind;

Deadline soon() {
  return Deadline::after(30s);
}

// Sends any bytes and sees what comes back, and when the connection ends.
class RawClient {
 public:
  explicit RawClient(int port) { EXPECT_FALSE(connection_.connect("127.0.0.1", port, soon())); }

  void send(std::string_view bytes) { EXPECT_FALSE(connection_.send(bytes, soon())); }
  void send(const StoreQuery& query) { send(encode_store_query(query)); }
  void greet() { send({.kind = Kind::kValidate, .number = kStoreMagic}); }
  std::string receive(std::size_t size) {
    std::string bytes(size, '\0');
    EXPECT_FALSE(connection_.receive(bytes.data(), size, soon()));
    return bytes;
  }
  bool is_silent_for(Clock::duration duration) {
    char byte = 0;
    return connection_.receive(&byte, 1, Deadline::after(duration)) ==
           std::make_error_code(std::errc::timed_out);
  }
  // True when the server has closed the connection and sent nothing before.
  bool has_ended() {
    char byte = 0;
    const auto failure = connection_.receive(&byte, 1, soon());
    return failure && failure != std::make_error_code(std::errc::timed_out);
  }
  bool is_alive() {
    send({.kind = Kind::kPing, .number = 0x01020304});
    return receive(4) == "\x04\x03\x02\x01";
  }

 private:
  StoreConnection connection_;
};

std::string framed(std::string_view text) {
  std::string bytes;
  append_store_bytes(bytes, text);
  return bytes;
}

class StoreServerBytes : public ::testing::Test {
 protected:
  StoreServerBytes() { witness_.greet(); }
  ~StoreServerBytes() override { EXPECT_TRUE(witness_.is_alive()) << "the server did not survive"; }

  HostedStoreServer server_{{.max_key_bytes = 1000, .max_value_bytes = 4 * 1024 * 1024}};
  RawClient witness_{server_.port()};
};

TEST_F(StoreServerBytes, ServesAQueryThatComesByteByByte) {
  RawClient client(server_.port());
  client.greet();
  const std::string bytes = encode_store_query({.kind = Kind::kSet, .keys = {"key"}, .values = {"value"}}) +
                            encode_store_query({.kind = Kind::kGet, .keys = {"key"}});
  for (const char byte : bytes) client.send(std::string_view(&byte, 1));
  EXPECT_EQ(client.receive(13), framed("value"));
}

TEST_F(StoreServerBytes, ServesQueriesThatComeInOnePiece) {
  RawClient client(server_.port());
  client.greet();
  std::string bytes;
  for (int i = 0; i < 5000; ++i)
    bytes += encode_store_query({.kind = Kind::kAdd, .keys = {"n"}, .number = 1});
  client.send(bytes);
  const std::string replies = client.receive(5000 * 8);
  for (int i = 0; i < 5000; ++i) {
    ASSERT_EQ(decode_store_integer(std::string_view(replies).substr(8 * i, 8)),
              static_cast<std::uint64_t>(i + 1));
  }
}

TEST_F(StoreServerBytes, EndsAConnectionThatSpeaksSomethingElse) {
  using namespace std::string_literals;
  for (const auto& bytes : {"GET / HTTP/1.1\r\n\r\n"s, "\x07"s, "\0\x01\x02\x03\x04"s,
                            "\x03\x01\0\0\0\0\0\0\0k"s, "\x16\x03\x01\x02\0"s}) {
    RawClient client(server_.port());
    client.send(bytes);
    EXPECT_TRUE(client.has_ended());
  }
}

TEST_F(StoreServerBytes, EndsAConnectionWithAMalformedQuery) {
  using namespace std::string_literals;
  for (const auto& bytes :
       {"\x13"s, "\xff"s, "\x03\xff\xff\xff\xff\xff\xff\xff\xff"s, "\x03\xe9\x03\0\0\0\0\0\0"s,
        encode_store_query({.kind = Kind::kValidate, .number = kStoreMagic}),
        encode_store_query({.kind = Kind::kSet, .keys = {"n"}, .values = {"x"}}) +
            encode_store_query({.kind = Kind::kAdd, .keys = {"n"}})}) {
    RawClient client(server_.port());
    client.greet();
    client.send(bytes);
    EXPECT_TRUE(client.has_ended());
  }
}

TEST_F(StoreServerBytes, ATruncatedQueryChangesNothing) {
  const std::string whole = encode_store_query({.kind = Kind::kSet, .keys = {"cut"}, .values = {"value"}});
  for (std::size_t size = 1; size < whole.size(); ++size) {
    RawClient client(server_.port());
    client.greet();
    client.send(std::string_view(whole).substr(0, size));
  }
  RawClient client(server_.port());
  client.greet();
  client.send({.kind = Kind::kCheck, .keys = {"cut"}});
  EXPECT_EQ(client.receive(1)[0], kStoreNotReady);
}

TEST_F(StoreServerBytes, CancelIsAnsweredBesideALateRelease) {
  RawClient client(server_.port());
  client.greet();
  client.send({.kind = Kind::kWait, .keys = {"k"}});
  EXPECT_TRUE(client.is_silent_for(10ms));
  client.send({.kind = Kind::kCancelWait});
  EXPECT_EQ(client.receive(1)[0], kStoreWaitCanceled);
  client.send({.kind = Kind::kWait, .keys = {"k"}});
  witness_.send({.kind = Kind::kSet, .keys = {"k"}, .values = {""}});
  EXPECT_EQ(client.receive(1)[0], kStoreStopWaiting);
  client.send({.kind = Kind::kCancelWait});
  EXPECT_EQ(client.receive(1)[0], kStoreWaitCanceled);
  EXPECT_TRUE(client.is_alive());
}

TEST_F(StoreServerBytes, ServesOtherQueriesOfAClientThatWaits) {
  RawClient client(server_.port());
  client.greet();
  client.send({.kind = Kind::kBarrier, .keys = {"b"}, .number = 2});
  EXPECT_TRUE(client.is_alive());
  witness_.send({.kind = Kind::kBarrier, .keys = {"b"}, .number = 2});
  EXPECT_EQ(client.receive(1)[0], kStoreStopWaiting);
  EXPECT_EQ(witness_.receive(1)[0], kStoreStopWaiting);
}

TEST_F(StoreServerBytes, AWaiterThatDiesIsDropped) {
  {
    RawClient client(server_.port());
    client.greet();
    client.send({.kind = Kind::kWait, .keys = {"k"}});
    EXPECT_TRUE(client.is_alive());
  }
  witness_.send({.kind = Kind::kSet, .keys = {"k"}, .values = {""}});
  EXPECT_TRUE(witness_.is_alive());
}

// 256 MiB of replies are asked for and not taken: they are not made before they are.
TEST_F(StoreServerBytes, AClientThatDoesNotReadDoesNotHoldUpOthers) {
  constexpr std::size_t kValueBytes = 1024 * 1024;
  constexpr int kReplies = 256;
  witness_.send({.kind = Kind::kSet, .keys = {"large"}, .values = {std::string(kValueBytes, 'v')}});
  EXPECT_TRUE(witness_.is_alive());
  RawClient greedy(server_.port());
  greedy.greet();
  for (int i = 0; i < kReplies; ++i) greedy.send({.kind = Kind::kGet, .keys = {"large"}});
  EXPECT_TRUE(witness_.is_alive());
  for (int i = 0; i < kReplies; ++i) ASSERT_EQ(greedy.receive(8 + kValueBytes).back(), 'v');
  EXPECT_TRUE(greedy.is_alive());
}

TEST_F(StoreServerBytes, ABarrierOfManyConnections) {
  constexpr int kClients = 100;
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_.port()));
    clients.back()->greet();
    clients.back()->send({.kind = Kind::kBarrier, .keys = {"all"}, .number = kClients});
  }
  for (const auto& client : clients) EXPECT_EQ(client->receive(1)[0], kStoreStopWaiting);
}

// A server on a context that the test itself runs.
class StoreServerOnContext : public ::testing::Test {
 protected:
  void run_until(const std::function<bool()>& condition) {
    const Deadline deadline = soon();
    while (!condition() && !deadline.has_passed()) context_.run_one_for(10ms);
    ASSERT_TRUE(condition());
  }

  boost::asio::io_context context_;
};

TEST_F(StoreServerOnContext, CountsItsConnections) {
  StoreServer server(context_, {});
  bool idle = false;
  {
    RawClient first(server.port());
    RawClient second(server.port());
    run_until([&] { return server.connection_count() == 2; });
    server.call_when_idle([&] { idle = true; });
    EXPECT_FALSE(idle);
  }
  run_until([&] { return server.connection_count() == 0; });
  EXPECT_TRUE(idle);
}

TEST_F(StoreServerOnContext, ItsEndEndsEveryConnection) {
  auto server = std::make_unique<StoreServer>(context_, StoreServerOptions{});
  RawClient waiting(server->port());
  waiting.greet();
  waiting.send({.kind = Kind::kWait, .keys = {"never"}});
  RawClient halfway(server->port());
  halfway.send("\x01");
  run_until([&] { return server->connection_count() == 2; });
  context_.poll();
  RawClient not_accepted(server->port());
  server.reset();
  EXPECT_TRUE(waiting.has_ended());
  EXPECT_TRUE(halfway.has_ended());
  context_.restart();
  context_.run();  // what was under way finds nobody, and nothing keeps the context busy
  EXPECT_TRUE(not_accepted.has_ended());
}

TEST_F(StoreServerOnContext, MayEndWithoutEverRunning) {
  StoreServer server(context_, {});
  EXPECT_GT(server.port(), 0);
  EXPECT_EQ(server.connection_count(), 0u);
}

TEST_F(StoreServerOnContext, APortThatIsNoneIsRefused) {
  for (const int port : {-1, 65536, 99999}) {
    const auto refusal = testing::refusal_of([&] { StoreServer(context_, {.port = port}); });
    EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refusal.message.find(std::to_string(port)), std::string::npos) << refusal.message;
  }
}

}  // namespace
}  // namespace deepscale
