#include "comm/store/query_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "comm/base/error.h"

namespace deepscale {
namespace {

using Kind = StoreQueryKind;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using Client = StoreQueryService::Client;

constexpr std::size_t kMaxReply = 1000;
const std::string kStop(1, kStoreStopWaiting);
const std::string kCanceled(1, kStoreWaitCanceled);
const std::string kReady(1, kStoreReady);
const std::string kNotReady(1, kStoreNotReady);

std::string number(std::int64_t value) {
  std::string bytes;
  append_store_integer(bytes, static_cast<std::uint64_t>(value));
  return bytes;
}

std::string bytes(std::string_view text) {
  std::string out;
  append_store_bytes(out, text);
  return out;
}

class StoreQueryServiceTest : public ::testing::Test {
 protected:
  StoreQueryServiceTest() {
    for (Client* client : {&a_, &b_, &c_}) ask(*client, {.kind = Kind::kValidate, .number = kStoreMagic});
  }

  std::string ask(Client& client, StoreQuery query) {
    std::string reply;
    service_.answer(client, std::move(query), reply);
    return reply;
  }
  std::string ask(Client& client, Kind kind, const std::string& key) {
    return ask(client, {.kind = kind, .keys = {key}});
  }
  void set(const std::string& key, const std::string& value) {
    EXPECT_EQ(ask(a_, {.kind = Kind::kSet, .keys = {key}, .values = {value}}), "");
  }
  bool refuses(Client& client, StoreQuery query) {
    try {
      ask(client, std::move(query));
      return false;
    } catch (const Error& error) {
      return error.code() == ErrorCode::kProtocol;
    }
  }

  StoreQueryService service_{{.max_value_bytes = 100, .max_total_bytes = 10000}, kMaxReply};
  Client a_{.id = 1};
  Client b_{.id = 2};
  Client c_{.id = 3};
};

TEST_F(StoreQueryServiceTest, TheMagicNumberComesFirstAndOnce) {
  Client client{.id = 9};
  EXPECT_TRUE(refuses(client, {.kind = Kind::kPing}));
  EXPECT_TRUE(refuses(client, {.kind = Kind::kValidate, .number = kStoreMagic + 1}));
  EXPECT_FALSE(client.validated);
  EXPECT_EQ(ask(client, {.kind = Kind::kValidate, .number = kStoreMagic}), "");
  EXPECT_EQ(ask(client, {.kind = Kind::kPing, .number = 0x01020304}), "\x04\x03\x02\x01");
  EXPECT_TRUE(refuses(client, {.kind = Kind::kValidate, .number = kStoreMagic}));
}

TEST_F(StoreQueryServiceTest, ValuesAreReadAsTheyWereWritten) {
  EXPECT_EQ(ask(a_, Kind::kGet, "k"), bytes(""));
  set("k", "v");
  EXPECT_EQ(ask(b_, Kind::kGet, "k"), bytes("v"));
  EXPECT_EQ(ask(a_, {.kind = Kind::kAppend, .keys = {"k"}, .values = {"w"}}), "");
  EXPECT_EQ(ask(a_, {.kind = Kind::kAppend, .keys = {"new"}, .values = {"x"}}), "");
  EXPECT_EQ(ask(a_, {.kind = Kind::kMultiGet, .keys = {"k", "none", "new"}}),
            bytes("vw") + bytes("") + bytes("x"));
  EXPECT_EQ(ask(a_, {.kind = Kind::kMultiSet, .keys = {"k", "l"}, .values = {"1", "2"}}), "");
  EXPECT_EQ(ask(a_, {.kind = Kind::kMultiGet, .keys = {"k", "l"}}), bytes("1") + bytes("2"));
  EXPECT_EQ(ask(a_, {.kind = Kind::kMultiGet}), "");
  EXPECT_EQ(ask(a_, {.kind = Kind::kKeyCount}), number(3));
  EXPECT_EQ(ask(a_, Kind::kDelete, "k"), number(1));
  EXPECT_EQ(ask(a_, Kind::kDelete, "k"), number(0));
  EXPECT_EQ(ask(a_, Kind::kDelete, "l"), number(1));
  EXPECT_EQ(ask(a_, {.kind = Kind::kListKeys}), number(1) + bytes("new"));
}

TEST_F(StoreQueryServiceTest, AddCountsInDecimalText) {
  const auto add = [](std::int64_t delta) {
    return StoreQuery{.kind = Kind::kAdd, .keys = {"n"}, .number = delta};
  };
  EXPECT_EQ(ask(a_, add(INT64_MAX)), number(INT64_MAX));
  EXPECT_TRUE(refuses(a_, add(1)));
  EXPECT_EQ(ask(a_, add(-3)), number(INT64_MAX - 3));
  set("n", std::to_string(INT64_MIN));
  EXPECT_TRUE(refuses(a_, add(-1)));
  for (const char* text : {"", "x", "1x", "99999999999999999999"}) {
    set("n", text);
    EXPECT_TRUE(refuses(a_, add(1))) << text;
    EXPECT_EQ(ask(a_, Kind::kGet, "n"), bytes(text));
  }
}

TEST_F(StoreQueryServiceTest, CompareSetReturnsWhatHolds) {
  const auto compare_set = [&](const char* expected, const char* desired) {
    return ask(a_, {.kind = Kind::kCompareSet, .keys = {"k"}, .values = {expected, desired}});
  };
  EXPECT_EQ(compare_set("e", "x"), bytes("e"));
  EXPECT_EQ(ask(a_, {.kind = Kind::kKeyCount}), number(0));
  EXPECT_EQ(compare_set("", "x"), bytes("x"));
  EXPECT_EQ(compare_set("", "y"), bytes("x"));
  EXPECT_EQ(compare_set("x", "y"), bytes("y"));
}

TEST_F(StoreQueryServiceTest, QueuesStandBesideValues) {
  const auto push = [&](const char* value) {
    EXPECT_EQ(ask(a_, {.kind = Kind::kQueuePush, .keys = {"q"}, .values = {value}}), "");
  };
  EXPECT_EQ(ask(a_, Kind::kQueuePop, "q"), number(0));
  push("1");
  push("2");
  EXPECT_EQ(ask(a_, Kind::kQueueLength, "q"), number(2));
  EXPECT_EQ(ask(a_, {.kind = Kind::kCheck, .keys = {"q"}}), kReady);
  EXPECT_EQ(ask(a_, Kind::kDelete, "q"), number(0));
  set("q", "value");
  EXPECT_EQ(ask(a_, {.kind = Kind::kKeyCount}), number(1));
  EXPECT_EQ(ask(b_, Kind::kQueuePop, "q"), number(2) + bytes("1"));
  EXPECT_EQ(ask(b_, Kind::kQueuePop, "q"), number(1) + bytes("2"));
  EXPECT_EQ(ask(b_, Kind::kQueuePop, "q"), number(0));
  EXPECT_EQ(ask(a_, Kind::kGet, "q"), bytes("value"));
}

TEST_F(StoreQueryServiceTest, EveryWayOfMakingAKeyEndsAWait) {
  const std::vector<StoreQuery> makers = {{.kind = Kind::kSet, .keys = {"0"}, .values = {""}},
                                          {.kind = Kind::kAppend, .keys = {"1"}, .values = {""}},
                                          {.kind = Kind::kAdd, .keys = {"2"}},
                                          {.kind = Kind::kCompareSet, .keys = {"3"}, .values = {"", ""}},
                                          {.kind = Kind::kMultiSet, .keys = {"4"}, .values = {""}},
                                          {.kind = Kind::kQueuePush, .keys = {"5"}, .values = {""}},
                                          {.kind = Kind::kBarrier, .keys = {"6"}, .number = 1}};
  for (const auto& maker : makers) {
    EXPECT_EQ(ask(a_, {.kind = Kind::kWait, .keys = maker.keys}), "");
    EXPECT_EQ(ask(b_, {.kind = Kind::kCheck, .keys = maker.keys}), kNotReady);
    ask(b_, maker);
    EXPECT_THAT(service_.take_released(), ElementsAre(a_.id)) << "kind " << static_cast<int>(maker.kind);
    EXPECT_EQ(ask(a_, {.kind = Kind::kWait, .keys = maker.keys}), kStop);
  }
}

TEST_F(StoreQueryServiceTest, AWaitEndsWhenTheLastKeyHasCome) {
  EXPECT_EQ(ask(a_, {.kind = Kind::kWait}), kStop);
  set("x", "");
  EXPECT_EQ(ask(b_, {.kind = Kind::kWait, .keys = {"x", "y", "z", "y"}}), "");
  EXPECT_EQ(ask(c_, {.kind = Kind::kWait, .keys = {"z"}}), "");
  set("z", "");
  EXPECT_THAT(service_.take_released(), ElementsAre(c_.id));
  ask(a_, Kind::kDelete, "z");
  set("y", "");
  EXPECT_THAT(service_.take_released(), ElementsAre(b_.id));
  set("z", "");
  EXPECT_THAT(service_.take_released(), IsEmpty());
}

TEST_F(StoreQueryServiceTest, APushWakesOneWaiterInTurn) {
  EXPECT_EQ(ask(a_, {.kind = Kind::kWait, .keys = {"q"}}), "");
  EXPECT_EQ(ask(b_, {.kind = Kind::kWait, .keys = {"q"}}), "");
  const StoreQuery push{.kind = Kind::kQueuePush, .keys = {"q"}, .values = {"v"}};
  ask(c_, push);
  EXPECT_THAT(service_.take_released(), ElementsAre(a_.id));
  ask(c_, push);
  EXPECT_THAT(service_.take_released(), ElementsAre(b_.id));
}

TEST_F(StoreQueryServiceTest, ACanceledOrForgottenWaiterIsNotReleased) {
  EXPECT_EQ(ask(a_, {.kind = Kind::kCancelWait}), kCanceled);
  EXPECT_EQ(ask(a_, {.kind = Kind::kWait, .keys = {"k", "l"}}), "");
  EXPECT_TRUE(refuses(a_, {.kind = Kind::kWait, .keys = {"other"}}));
  EXPECT_TRUE(refuses(a_, {.kind = Kind::kBarrier, .keys = {"other"}, .number = 2}));
  EXPECT_EQ(ask(a_, {.kind = Kind::kCancelWait}), kCanceled);
  EXPECT_EQ(ask(b_, {.kind = Kind::kBarrier, .keys = {"barrier"}, .number = 2}), "");
  service_.forget(b_);
  set("k", "");
  set("l", "");
  EXPECT_EQ(ask(c_, {.kind = Kind::kBarrier, .keys = {"barrier"}, .number = 2}), kStop);
  EXPECT_THAT(service_.take_released(), IsEmpty());
}

TEST_F(StoreQueryServiceTest, TheLastToArriveEndsABarrierForAll) {
  const StoreQuery arrive{.kind = Kind::kBarrier, .keys = {"b"}, .number = 3};
  EXPECT_EQ(ask(a_, arrive), "");
  EXPECT_EQ(ask(b_, arrive), "");
  EXPECT_EQ(ask(c_, Kind::kGet, "b"), bytes("2"));
  EXPECT_EQ(ask(c_, arrive), kStop);
  EXPECT_THAT(service_.take_released(), UnorderedElementsAre(a_.id, b_.id));
  EXPECT_EQ(ask(a_, arrive), kStop);
}

TEST_F(StoreQueryServiceTest, MemoryIsBounded) {
  const std::string large(100, 'v');
  set("k", large);
  EXPECT_TRUE(refuses(a_, {.kind = Kind::kAppend, .keys = {"k"}, .values = {"v"}}));
  EXPECT_EQ(ask(a_, Kind::kGet, "k"), bytes(large));
  EXPECT_TRUE(refuses(a_, {.kind = Kind::kMultiGet, .keys = std::vector<std::string>(11, "k")}));
  EXPECT_EQ(ask(a_, {.kind = Kind::kMultiGet, .keys = std::vector<std::string>(10, "k")}).size(), 1080u);

  int stored = 1;
  while (!refuses(a_, {.kind = Kind::kSet, .keys = {std::to_string(stored)}, .values = {large}})) ++stored;
  EXPECT_TRUE(refuses(a_, {.kind = Kind::kQueuePush, .keys = {"q"}, .values = {large}}));
  EXPECT_EQ(ask(a_, {.kind = Kind::kKeyCount}), number(stored));
  EXPECT_NEAR(stored, 97, 2);
  EXPECT_EQ(ask(a_, Kind::kDelete, "k"), number(1));
  EXPECT_FALSE(refuses(a_, {.kind = Kind::kQueuePush, .keys = {"q"}, .values = {std::string(90, 'v')}}));
}

// A model with nothing clever in it: after each step, exactly those waiters are free all of whose keys came
// since they began.
TEST(KeyValueTable, AnyOrderOfSetsWaitsAndCancelsReleasesTheRightOnes) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    KeyValueTable table({});
    std::map<KeyValueTable::Waiter, std::set<std::string>> missing;
    std::set<std::string> present;
    for (int step = 0; step < 200; ++step) {
      const std::string key(1, static_cast<char>('a' + random() % 6));
      const KeyValueTable::Waiter waiter = random() % 8;
      std::set<KeyValueTable::Waiter> expected;
      switch (random() % 4) {
        case 0:
          table.set(key, "");
          present.insert(key);
          for (auto& [id, keys] : missing) {
            if (keys.erase(key) > 0 && keys.empty()) expected.insert(id);
          }
          break;
        case 1:
          EXPECT_EQ(table.remove(key), present.erase(key) > 0);
          break;
        case 2:
          table.cancel(waiter);
          missing.erase(waiter);
          break;
        default: {
          if (table.is_waiting(waiter)) break;
          const std::string other(1, static_cast<char>('a' + random() % 6));
          for (const auto& wanted : {key, other}) {
            if (present.count(wanted) == 0) missing[waiter].insert(wanted);
          }
          ASSERT_EQ(table.wait(waiter, {key, other}), missing.count(waiter) == 0) << "seed " << seed;
        }
      }
      const auto released = table.take_released();
      ASSERT_EQ(std::set<KeyValueTable::Waiter>(released.begin(), released.end()), expected)
          << "seed " << seed;
      for (const auto id : expected) missing.erase(id);
    }
  }
}

}  // namespace
}  // namespace deepscale
