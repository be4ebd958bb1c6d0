#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "comm/base/error.h"
#include "comm/store/store.h"
#include "comm/store/store_server.h"

namespace deepscale {
namespace {

using namespace std::chrono_literals;

Deadline soon() {
  return Deadline::after(30s);
}

class StoreClient : public ::testing::Test {
 protected:
  std::unique_ptr<Store> connect() { return connect_store("127.0.0.1", server_->port(), soon()); }

  template <typename Call>
  static Error error_of(Call call) {
    try {
      call();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no Error was thrown";
    return Error(ErrorCode::kInternal, "");
  }

  std::unique_ptr<HostedStoreServer> server_ = std::make_unique<HostedStoreServer>(StoreServerOptions{});
};

TEST_F(StoreClient, KeepsBytesUnderKeys) {
  const auto store = connect();
  const std::string bytes("\0\xff/\n", 4);
  store->set("key", bytes);
  store->set(bytes, "value");
  store->set("empty", "");
  EXPECT_EQ(store->get("key", soon()), bytes);
  EXPECT_EQ(store->get(bytes, soon()), "value");
  EXPECT_EQ(store->get("empty", soon()), "");
  EXPECT_EQ(store->key_count(), 3);
}

TEST_F(StoreClient, CarriesValuesLargerThanAnyBuffer) {
  const auto store = connect();
  std::string large(20 * 1024 * 1024, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 7 + i / 251);
  store->set("large", large);
  EXPECT_TRUE(connect()->get("large", soon()) == large);
}

TEST_F(StoreClient, AddsToDecimalText) {
  const auto store = connect();
  EXPECT_EQ(store->add("n", 5), 5);
  EXPECT_EQ(store->add("n", -7), -2);
  EXPECT_EQ(store->get("n", soon()), "-2");
  store->set("n", "40");
  EXPECT_EQ(store->add("n", 2), 42);
}

TEST_F(StoreClient, ComparesAndSets) {
  const auto store = connect();
  EXPECT_EQ(store->compare_set("k", "expected", "x"), "expected");
  EXPECT_FALSE(store->check({"k"}));
  EXPECT_EQ(store->compare_set("k", "", "first"), "first");
  EXPECT_EQ(store->compare_set("k", "other", "second"), "first");
  EXPECT_EQ(store->compare_set("k", "first", "second"), "second");
  EXPECT_EQ(store->get("k", soon()), "second");
}

TEST_F(StoreClient, ChecksAndRemoves) {
  const auto store = connect();
  store->set("a", "1");
  EXPECT_TRUE(store->check({}));
  EXPECT_TRUE(store->check({"a"}));
  EXPECT_FALSE(store->check({"a", "b"}));
  EXPECT_TRUE(store->remove("a"));
  EXPECT_FALSE(store->remove("a"));
  EXPECT_EQ(store->key_count(), 0);
}

TEST_F(StoreClient, GetWaitsUntilAnotherSets) {
  const auto reader = connect();
  auto value = std::async(std::launch::async, [&] { return reader->get("later", soon()); });
  EXPECT_EQ(value.wait_for(20ms), std::future_status::timeout);
  connect()->set("later", "here");
  EXPECT_EQ(value.get(), "here");
}

TEST_F(StoreClient, WaitNeedsAllKeys) {
  const auto waiter = connect();
  const auto setter = connect();
  auto done = std::async(std::launch::async, [&] { waiter->wait({"a", "b", "a"}, soon()); });
  setter->set("a", "");
  EXPECT_EQ(done.wait_for(20ms), std::future_status::timeout);
  setter->add("b", 1);
  done.get();
}

TEST_F(StoreClient, ADeadlineNamesServerAndKeysAndLeavesTheConnectionUsable) {
  const auto store = connect();
  for (int i = 0; i < 3; ++i) {
    const Error error = error_of([&] { store->get("missing/key", Deadline::after(10ms)); });
    EXPECT_EQ(error.code(), ErrorCode::kTimeout);
    EXPECT_NE(std::string(error.what()).find("'missing/key'"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("127.0.0.1:" + std::to_string(server_->port())),
              std::string::npos);
  }
  const Error error = error_of([&] { store->wait({"a", "b", "c", "d", "e", "f"}, Deadline::after(10ms)); });
  EXPECT_NE(std::string(error.what()).find("'d' and 2 more"), std::string::npos) << error.what();
  store->set("missing/key", "now");
  EXPECT_EQ(store->get("missing/key", soon()), "now");
}

// The key appears in the very moment in which its waiter gives up: the late reply must not be taken for
// another one's.
TEST_F(StoreClient, GivingUpRacesWithTheKey) {
  const auto waiter = connect();
  const auto setter = connect();
  for (int i = 0; i < 200; ++i) {
    const std::string key = "race/" + std::to_string(i);
    auto set = std::async(std::launch::async, [&] { setter->set(key, "v"); });
    try {
      EXPECT_EQ(waiter->get(key, Deadline::after(std::chrono::microseconds(i))), "v");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
    }
    set.get();
    ASSERT_EQ(waiter->get(key, soon()), "v");
    ASSERT_EQ(waiter->add("count", 1), i + 1);
  }
}

TEST_F(StoreClient, ServesManyThreadsAtOnce) {
  constexpr int kThreads = 64;
  const auto shared = std::shared_ptr<Store>(connect());
  std::vector<std::thread> threads;
  std::atomic<int> last_ones = 0;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const auto own = connect();
      for (int round = 0; round < 20; ++round) {
        shared->set("value/" + std::to_string(i), std::to_string(round));
        if (own->add("sum", 1) == kThreads * 20) ++last_ones;
      }
      own->wait({"value/" + std::to_string((i + 1) % kThreads)}, soon());
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(last_ones, 1);
  EXPECT_EQ(shared->get("sum", soon()), std::to_string(kThreads * 20));
  EXPECT_EQ(shared->key_count(), kThreads + 1);
}

TEST_F(StoreClient, TheServersEndIsFinal) {
  const auto store = connect();
  const auto waiting = connect();
  auto wait = std::async(std::launch::async, [&] { waiting->wait({"never"}, soon()); });
  EXPECT_EQ(wait.wait_for(20ms), std::future_status::timeout);
  server_.reset();
  EXPECT_EQ(error_of([&] { wait.get(); }).code(), ErrorCode::kPeerLost);
  EXPECT_EQ(error_of([&] { store->get("k", soon()); }).code(), ErrorCode::kPeerLost);
  EXPECT_EQ(error_of([&] { store->set("k", "v"); }).code(), ErrorCode::kPeerLost);
}

TEST_F(StoreClient, AQueryOverTheLimitsLosesItsConnectionOnly) {
  server_ =
      std::make_unique<HostedStoreServer>(StoreServerOptions{.max_key_bytes = 32, .max_value_bytes = 64});
  const auto good = connect();
  good->set(std::string(31, 'k'), std::string(64, 'v'));  // the client puts one byte before each key
  const auto long_key = connect();
  const Error error = error_of([&] { long_key->check({std::string(32, 'k')}); });
  EXPECT_EQ(error.code(), ErrorCode::kPeerLost);
  EXPECT_NE(std::string(error.what()).find("refused"), std::string::npos) << error.what();
  const auto long_value = connect();
  EXPECT_EQ(error_of([&] { long_value->compare_set("k", "", std::string(65, 'v')); }).code(),
            ErrorCode::kPeerLost);
  EXPECT_EQ(good->key_count(), 1);
}

TEST_F(StoreClient, WaitsForAServerThatIsNotThereYet) {
  const int port = server_->port();
  server_.reset();
  auto connecting = std::async(std::launch::async, [&] { return connect_store("localhost", port, soon()); });
  EXPECT_EQ(connecting.wait_for(30ms), std::future_status::timeout);
  server_ = std::make_unique<HostedStoreServer>(StoreServerOptions{.port = port});
  connecting.get()->set("k", "v");
}

TEST_F(StoreClient, NobodyThereUntilTheDeadline) {
  const int port = server_->port();
  server_.reset();
  const Error error = error_of([&] { connect_store("127.0.0.1", port, Deadline::after(100ms)); });
  EXPECT_EQ(error.code(), ErrorCode::kTimeout);
  EXPECT_NE(std::string(error.what()).find("127.0.0.1:" + std::to_string(port)), std::string::npos)
      << error.what();
  EXPECT_EQ(error_of([&] { connect_store("127.0.0.1", 0, soon()); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of([&] { connect_store("", 80, soon()); }).code(), ErrorCode::kInvalidArgument);
}

TEST_F(StoreClient, WorksOverIpv6WhereThereIsOne) {
  try {
    server_ = std::make_unique<HostedStoreServer>(StoreServerOptions{.address = "::1"});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  const auto store = connect_store("::1", server_->port(), soon());
  store->set("k", "v");
  EXPECT_EQ(store->get("k", soon()), "v");
}

TEST_F(StoreClient, ListensOnAllAddressesOfBothFamilies) {
  try {
    server_ = std::make_unique<HostedStoreServer>(StoreServerOptions{.address = "::"});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  connect_store("::1", server_->port(), soon())->set("k", "v");
  EXPECT_EQ(connect()->get("k", soon()), "v");
}

TEST_F(StoreClient, APortServesOneServer) {
  const Error error =
      error_of([&] { HostedStoreServer second(StoreServerOptions{.port = server_->port()}); });
  EXPECT_EQ(error.code(), ErrorCode::kSystem);
  EXPECT_NE(std::string(error.what()).find("127.0.0.1:" + std::to_string(server_->port())),
            std::string::npos);
  EXPECT_EQ(error_of([] { HostedStoreServer(StoreServerOptions{.address = "here"}); }).code(),
            ErrorCode::kInvalidArgument);
}

TEST_F(StoreClient, KnowsWhenItsClientsHaveLeft) {
  EXPECT_TRUE(server_->wait_until_idle(soon()));
  auto store = connect();
  EXPECT_FALSE(server_->wait_until_idle(Deadline::after(10ms)));
  store.reset();
  EXPECT_TRUE(server_->wait_until_idle(soon()));
}

TEST_F(StoreClient, PrefixesKeepStoresApart) {
  const auto store = std::shared_ptr<Store>(connect());
  const auto a = with_prefix(store, "a");
  const auto b = with_prefix(with_prefix(store, "a"), "b");
  a->set("k", "1");
  b->set("k", "2");
  EXPECT_EQ(store->get("a/k", soon()), "1");
  EXPECT_EQ(store->get("a/b/k", soon()), "2");
  EXPECT_EQ(a->add("n", 3), 3);
  EXPECT_EQ(a->compare_set("k", "1", "3"), "3");
  EXPECT_TRUE(a->check({"k", "n"}));
  EXPECT_FALSE(b->check({"n"}));
  a->wait({"k", "n"}, soon());
  EXPECT_TRUE(a->remove("n"));
  EXPECT_EQ(a->key_count(), 2);
}

TEST_F(StoreClient, ABarrierLetsAllGoTogether) {
  constexpr int kRanks = 16;
  std::atomic<int> arrived = 0;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&] {
      const auto store = connect();
      for (int round = 1; round <= 5; ++round) {
        ++arrived;
        store_barrier(*store, "round/" + std::to_string(round), kRanks, soon());
        EXPECT_GE(arrived, round * kRanks);
      }
    });
  }
  for (auto& rank : ranks) rank.join();
}

TEST_F(StoreClient, ABarrierTellsHowManyCame) {
  const auto store = connect();
  const auto other = connect();
  auto first = std::async(std::launch::async, [&] { store_barrier(*other, "b", 3, soon()); });
  const Deadline arrival = soon();
  while (store->key_count() == 0 && !arrival.has_passed()) std::this_thread::yield();
  const Error error = error_of([&] { store_barrier(*store, "b", 3, Deadline::after(20ms)); });
  EXPECT_EQ(error.code(), ErrorCode::kTimeout);
  EXPECT_NE(std::string(error.what()).find("2 of 3"), std::string::npos) << error.what();
  store_barrier(*store, "b", 3, soon());
  first.get();
  store_barrier(*store, "once", 1, soon());
  EXPECT_EQ(error_of([&] { store_barrier(*store, "once", 1, soon()); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace deepscale
