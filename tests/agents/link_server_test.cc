// A rank's link and its agent, in one process: who is let in, what arrives, and what strangers achieve.
#include "agents/link/link_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <optional>
#include <thread>

#include "agents/link/link_address.h"
#include "agents/link/rank_link.h"
#include "comm/base/error.h"
#include "tests/agents/link_agent.h"

namespace deepscale {
namespace {

using Agent = testing::LinkAgent;
using namespace std::chrono_literals;
using boost::asio::ip::tcp;
using ::testing::HasSubstr;

// Somebody who speaks in bytes.
class Stranger {
 public:
  explicit Stranger(const LinkAddress& address) {
    socket_.connect(
        {boost::asio::ip::make_address(address.host), static_cast<boost::asio::ip::port_type>(address.port)});
  }
  void send(const std::string& bytes) {
    boost::system::error_code ignored;
    boost::asio::write(socket_, boost::asio::buffer(bytes), ignored);
  }
  // To the end of the connection.
  std::string read_all() {
    std::string bytes;
    boost::system::error_code failure;
    char piece[256];
    while (!failure) bytes.append(piece, socket_.read_some(boost::asio::buffer(piece), failure));
    return bytes;
  }
  LinkMessage read_message() {
    char bytes[kLinkHeaderBytes];
    boost::asio::read(socket_, boost::asio::buffer(bytes));
    std::string_view view(bytes, sizeof bytes);
    return LinkParser().next(view).value();
  }

 private:
  boost::asio::io_context io_;
  tcp::socket socket_{io_};
};

template <typename Call>
std::pair<ErrorCode, std::string> failure_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::kInternal, "nothing was thrown"};
}

TEST(RankLink, WithoutAnAgentItDoesNothing) {
  RankLink link = RankLink::from_environment({});
  EXPECT_FALSE(link.is_connected());
  link.heartbeat(1);
  link.rest();
  EXPECT_FALSE(link.stop_requested());
  EXPECT_FALSE(link.report_failure(RankFailure::kException, "why"));
}

TEST(RankLink, TellsTheAgentOfItsSteps) {
  Agent agent(2);
  RankLink link = RankLink::from_environment(agent.environment(1));
  EXPECT_TRUE(link.is_connected());
  EXPECT_TRUE(agent.status(1).has_joined);
  EXPECT_FALSE(agent.status(1).steps);
  EXPECT_FALSE(agent.status(0).has_joined);
  for (int step = 1; step <= 1000; ++step) link.heartbeat(step);
  EXPECT_TRUE(agent.wait_for(1, [](const LinkStatus& status) { return status.steps == 1000; }));
  link.rest();
  EXPECT_TRUE(agent.wait_for(1, [](const LinkStatus& status) { return status.is_resting; }));
  link.heartbeat(1000);
  EXPECT_TRUE(agent.wait_for(1, [](const LinkStatus& status) { return !status.is_resting; }));
}

TEST(RankLink, OnlyAnotherNumberIsProgress) {
  Agent agent(1);
  RankLink link = RankLink::from_environment(agent.environment(0));
  link.heartbeat(5);
  ASSERT_TRUE(agent.wait_for(0, [](const LinkStatus& status) { return status.steps == 5; }));
  const auto first = agent.status(0);
  link.heartbeat(5);
  ASSERT_TRUE(agent.wait_for(0, [&](const LinkStatus& status) { return status.heard_at > first.heard_at; }));
  EXPECT_EQ(agent.status(0).progress_at, first.progress_at);
  link.heartbeat(4);
  EXPECT_TRUE(
      agent.wait_for(0, [&](const LinkStatus& status) { return status.progress_at > first.progress_at; }));
}

TEST(RankLink, AFailureHasArrivedWhenTheCallReturns) {
  Agent agent(1);
  RankLink link = RankLink::from_environment(agent.environment(0));
  for (int round = 1; round <= 50; ++round) {
    link.heartbeat(round);
    ASSERT_TRUE(link.report_failure(RankFailure::kCuda, "round " + std::to_string(round)));
    const LinkStatus status = agent.status(0);
    ASSERT_TRUE(status.failure);
    EXPECT_EQ(status.failure->kind, RankFailure::kCuda);
    EXPECT_EQ(status.failure->message, "round " + std::to_string(round));
    EXPECT_EQ(status.steps, round);
  }
  link.heartbeat(51);
  EXPECT_TRUE(agent.wait_for(0, [](const LinkStatus& status) { return !status.failure; }));
}

TEST(RankLink, HearsThatItIsToStopAlsoWhenItComesLater) {
  Agent agent(1);
  RankLink link = RankLink::from_environment(agent.environment(0));
  EXPECT_FALSE(link.stop_requested());
  EXPECT_TRUE(agent.wait_for(0, [](const LinkStatus& status) { return status.watches_stop; }));
  EXPECT_TRUE(agent.on_thread([&] { return agent.server().request_stop(0, LinkStop::kRequested); }));
  const auto deadline = Deadline::after(50s);
  while (!link.stop_requested() && !deadline.has_passed()) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(link.stop_requested());
  RankLink late = RankLink::from_environment(agent.environment(0));
  while (!late.stop_requested() && !deadline.has_passed()) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(late.stop_requested());
}

TEST(RankLink, AFailureElsewhereIsNoRequestToSaveAndLeave) {
  Agent agent(1);
  RankLink link = RankLink::from_environment(agent.environment(0));
  EXPECT_TRUE(agent.on_thread([&] { return agent.server().request_stop(0, LinkStop::kFailure); }));
  EXPECT_TRUE(link.report_failure(RankFailure::kException, "its answer comes after the request"));
  EXPECT_FALSE(link.stop_requested());
}

TEST(RankLink, SeveralMaySpeakForOneRank) {
  Agent agent(1);
  RankLink first = RankLink::from_environment(agent.environment(0));
  {
    RankLink second = RankLink::from_environment(agent.environment(0));
    EXPECT_EQ(agent.status(0).connections, 2);
    second.heartbeat(3);
    EXPECT_TRUE(agent.wait_for(0, [](const LinkStatus& status) { return status.steps == 3; }));
  }
  EXPECT_TRUE(agent.wait_for(0, [](const LinkStatus& status) { return status.connections == 1; }));
}

TEST(RankLink, BecomesANullLinkWhenItsAgentGoes) {
  std::optional<Agent> agent(std::in_place, 1);
  RankLink link = RankLink::from_environment(agent->environment(0));
  agent.reset();
  EXPECT_FALSE(link.report_failure(RankFailure::kException, "nobody hears it"));
  EXPECT_FALSE(link.is_connected());
  link.heartbeat(1);
  EXPECT_FALSE(link.stop_requested());
}

TEST(RankLink, SaysThatThereIsNoAgent) {
  std::optional<Agent> agent(std::in_place, 1);
  const Environment environment = agent->environment(0);
  agent.reset();
  const auto [code, message] = failure_of([&] { RankLink::from_environment(environment); });
  EXPECT_EQ(code, ErrorCode::kPeerLost) << message;
  EXPECT_THAT(message, HasSubstr("DEEPSCALE_AGENT"));
}

TEST(RankLink, TellsTheKindOfAnException) {
  EXPECT_EQ(rank_failure_of(std::runtime_error("it broke")), RankFailure::kException);
  EXPECT_EQ(rank_failure_of(std::bad_alloc()), RankFailure::kOutOfMemory);
  EXPECT_EQ(rank_failure_of(std::runtime_error("CUDA out of memory. Tried to allocate 2 GiB")),
            RankFailure::kOutOfMemory);
  EXPECT_EQ(rank_failure_of(std::runtime_error("CUDA error: an illegal memory access")), RankFailure::kCuda);
  EXPECT_EQ(rank_failure_of(Error(ErrorCode::kTimeout, "")), RankFailure::kCollectiveTimeout);
  EXPECT_EQ(rank_failure_of(Error(ErrorCode::kPeerLost, "")), RankFailure::kPeerLost);
  EXPECT_EQ(rank_failure_of(Error(ErrorCode::kAborted, "")), RankFailure::kPeerLost);
  EXPECT_EQ(rank_failure_of(Error(ErrorCode::kInvalidArgument, "")), RankFailure::kException);
}

TEST(LinkServer, RefusesARankOfAnotherGeneration) {
  Agent agent(1, 2);
  const std::string address = agent.address(0).text();
  const auto [code, message] =
      failure_of([&] { RankLink::from_environment(Agent::environment(address, 1)); });
  EXPECT_EQ(code, ErrorCode::kAborted) << message;
  EXPECT_THAT(message, HasSubstr("it is of generation 1, and the job is at generation 2"));
  EXPECT_FALSE(agent.status(0).has_joined);
}

TEST(LinkServer, RefusesAStrangersToken) {
  Agent agent(3);
  LinkAddress address = agent.address(0);
  address.token.back() = address.token.back() == '0' ? '1' : '0';
  const auto [code, message] =
      failure_of([&] { RankLink::from_environment(Agent::environment(address.text(), 0)); });
  EXPECT_EQ(code, ErrorCode::kAborted) << message;
  EXPECT_THAT(message, HasSubstr("token"));
}

TEST(LinkServer, CutsOffWhoeverDoesNotSayHelloFirst) {
  Agent agent(1);
  Stranger web_browser(agent.address(0));
  web_browser.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(web_browser.read_all(), "");
  Stranger hasty(agent.address(0));
  hasty.send(encode_link_message({LinkKind::kHeartbeat, 9, ""}));
  EXPECT_THAT(hasty.read_all(), HasSubstr("did not say hello first"));
  EXPECT_FALSE(agent.status(0).steps);
}

TEST(LinkServer, CutsOffARankThatSpeaksAsAnAgent) {
  Agent agent(1);
  const LinkAddress address = agent.address(0);
  Stranger rank(address);
  rank.send(encode_link_message({LinkKind::kHello, 0, address.token}));
  EXPECT_EQ(rank.read_message().kind, LinkKind::kWelcome);
  rank.send(encode_link_message({LinkKind::kStop, 0, ""}));
  EXPECT_EQ(rank.read_all(), "");
  EXPECT_TRUE(agent.wait_for(0, [](const LinkStatus& status) { return status.connections == 0; }));
}

TEST(LinkServer, ManySilentConnectionsKeepNobodyOut) {
  Agent agent(1);
  const LinkAddress address = agent.address(0);
  std::vector<std::unique_ptr<Stranger>> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(std::make_unique<Stranger>(address));
  RankLink link = RankLink::from_environment(agent.environment(0));
  EXPECT_TRUE(link.is_connected());
  EXPECT_EQ(silent.front()->read_all(), "");  // the oldest had to give way
}

}  // namespace
}  // namespace deepscale
