// How ranks find each other, and whom they refuse.
#include <gmock/gmock.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <future>
#include <sstream>

#include "comm/store/store_server.h"
#include "comm/tcp/mesh.h"
#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using Endpoint = boost::asio::ip::tcp::endpoint;
using Socket = boost::asio::ip::tcp::socket;

constexpr auto kGenerous = std::chrono::seconds(30);

// Where rank 0 listens, as soon as it does.
Endpoint address_of_rank_0(Store& store) {
  std::istringstream record(store.get("communicator/world/rank 0", Deadline::after(kGenerous)));
  std::string address;
  unsigned short port = 0;
  record >> address >> port;
  return {boost::asio::ip::make_address(address), port};
}

std::future<std::unique_ptr<Communicator>> join(int rank, int world_size, std::shared_ptr<Store> store) {
  return std::async(std::launch::async,
                    [=] { return make_tcp_communicator(rank, world_size, store, {.timeout = kGenerous}); });
}

ErrorCode code_of(std::future<std::unique_ptr<Communicator>>& joined, std::string& message) {
  try {
    joined.get();
  } catch (const Error& error) {
    message = error.what();
    return error.code();
  }
  message = "no error";
  return ErrorCode::kInternal;
}

TEST(CommunicatorRendezvous, RanksMeetThroughAStoreServer) {
  const HostedStoreServer server({});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 4; ++rank) {
    threads.emplace_back([&, rank] {
      const std::shared_ptr<Store> store =
          connect_store("127.0.0.1", server.port(), Deadline::after(kGenerous));
      WorldLayout layout;
      layout.rank = rank;
      layout.world_size = 4;
      layout.generation = 1;
      const auto ranks = make_communicator(layout, store, {.timeout = kGenerous});
      EXPECT_STREQ(ranks->backend(), "shm");
      std::vector<float> values{static_cast<float>(rank)};
      ranks->all_reduce(buffer_of(values), ReduceOp::kSum).wait();
      EXPECT_EQ(values[0], 6.0f);
      ranks->barrier().wait();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CommunicatorRendezvous, StrangersOnThePortAreRefusedAndDoNoHarm) {
  const auto store = std::make_shared<MemoryStore>();
  auto first = join(0, 2, store);
  boost::asio::io_context context;
  Socket silent(context), talkative(context);
  silent.connect(address_of_rank_0(*store));
  talkative.connect(address_of_rank_0(*store));
  const std::string request(48, 'G');
  boost::asio::write(talkative, boost::asio::buffer(request));
  char answer = 0;
  boost::system::error_code failure;
  boost::asio::read(talkative, boost::asio::buffer(&answer, 1), failure);
  EXPECT_TRUE(failure) << "a stranger got an answer";

  auto second = join(1, 2, store);
  const auto rank_0 = first.get(), rank_1 = second.get();
  Work work = rank_0->barrier();
  rank_1->barrier().wait();
  work.wait();
}

TEST(CommunicatorRendezvous, RanksThatDisagreeOnTheWorldSizeBothFail) {
  const auto store = std::make_shared<MemoryStore>();
  auto first = join(0, 2, store);
  auto second = join(1, 3, store);
  std::string message;
  EXPECT_EQ(code_of(first, message), ErrorCode::kInvalidArgument);
  EXPECT_THAT(message, HasSubstr("a peer says it is rank 1 of 3"));
  EXPECT_EQ(code_of(second, message), ErrorCode::kInvalidArgument);
  EXPECT_THAT(message, HasSubstr("a peer says it is rank 0 of 2"));
}

TEST(CommunicatorRendezvous, APeerThatEndedBeforeTheMeshWasCompleteIsNamed) {
  const auto store = std::make_shared<MemoryStore>();
  store->set("communicator/world/rank 0", "127.0.0.1 1 0123456789abcdef0123456789abcdef");
  auto joined = join(1, 2, store);
  std::string message;
  EXPECT_EQ(code_of(joined, message), ErrorCode::kPeerLost);
  EXPECT_THAT(message, HasSubstr("cannot connect to rank 0: 127.0.0.1 port 1"));
}

TEST(CommunicatorRendezvous, AStoreThatHoldsNonsenseIsAProtocolError) {
  const auto store = std::make_shared<MemoryStore>();
  store->set("communicator/world/rank 0", "nonsense");
  auto joined = join(1, 2, store);
  std::string message;
  EXPECT_EQ(code_of(joined, message), ErrorCode::kProtocol);
}

TEST(CommunicatorRendezvous, ListensOnLoopbackExactlyWhenAllRanksAreOnThisHost) {
  WorldLayout layout;
  EXPECT_EQ(tcp::choose_listen_address(layout), "127.0.0.1");
  layout.master_addr = "127.0.0.1";
  EXPECT_EQ(tcp::choose_listen_address(layout), "127.0.0.1");
  layout.node_count = 2;
  try {
    EXPECT_NE(tcp::choose_listen_address(layout), "127.0.0.1");
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("no network interface"));  // a machine without a network
  }
}

}  // namespace
}  // namespace deepscale
