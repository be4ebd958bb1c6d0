#include "comm/store/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "comm/base/error.h"

namespace deepscale {
namespace {

using Kind = StoreQueryKind;

std::vector<StoreQuery> one_of_each_kind() {
  return {{.kind = Kind::kValidate, .number = kStoreMagic},
          {.kind = Kind::kSet, .keys = {"k"}, .values = {"v"}},
          {.kind = Kind::kCompareSet, .keys = {"k"}, .values = {"", "new"}},
          {.kind = Kind::kGet, .keys = {""}},
          {.kind = Kind::kAdd, .keys = {"k"}, .number = -7},
          {.kind = Kind::kCheck, .keys = {}},
          {.kind = Kind::kWait, .keys = {"a", "", "c"}},
          {.kind = Kind::kKeyCount},
          {.kind = Kind::kDelete, .keys = {"k"}},
          {.kind = Kind::kAppend, .keys = {"k"}, .values = {std::string("\0\xff", 2)}},
          {.kind = Kind::kMultiGet, .keys = {"a", "b"}},
          {.kind = Kind::kMultiSet, .keys = {"a", "b"}, .values = {"1", "2"}},
          {.kind = Kind::kCancelWait},
          {.kind = Kind::kPing, .number = 0xFFFFFFFF},
          {.kind = Kind::kQueuePush, .keys = {"q"}, .values = {"v"}},
          {.kind = Kind::kQueuePop, .keys = {"q"}},
          {.kind = Kind::kQueueLength, .keys = {"q"}},
          {.kind = Kind::kListKeys},
          {.kind = Kind::kBarrier, .keys = {"b"}, .number = 4096}};
}

// Feeds `bytes` in pieces of up to `max_piece` bytes.
std::vector<StoreQuery> parse(std::string_view bytes, std::size_t max_piece, std::mt19937& random,
                              StoreQueryLimits limits = {}) {
  StoreQueryParser parser(limits);
  std::vector<StoreQuery> queries;
  while (!bytes.empty()) {
    const std::size_t size = std::min<std::size_t>(bytes.size(), 1 + random() % max_piece);
    std::string_view piece = bytes.substr(0, size);
    bytes.remove_prefix(size);
    while (auto query = parser.next(piece)) queries.push_back(std::move(*query));
    EXPECT_TRUE(piece.empty());
  }
  return queries;
}

std::string random_text(std::mt19937& random, std::size_t max_size) {
  std::string text(random() % (max_size + 1), '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

StoreQuery random_query(std::mt19937& random) {
  auto query = one_of_each_kind()[random() % kStoreQueryKinds];
  const bool is_list = query.kind == Kind::kCheck || query.kind == Kind::kWait ||
                       query.kind == Kind::kMultiGet || query.kind == Kind::kMultiSet;
  if (is_list) {
    query.keys.resize(random() % 6);
    if (query.kind == Kind::kMultiSet) query.values.resize(query.keys.size());
  }
  for (auto& key : query.keys) key = random_text(random, 40);
  for (auto& value : query.values) value = random_text(random, 400);
  return query;
}

TEST(StoreWire, EncodesWhatTorchSends) {
  using namespace std::string_literals;
  EXPECT_EQ(encode_store_query({.kind = Kind::kValidate, .number = kStoreMagic}), "\x00\xce\xf7\x85\x3c"s);
  EXPECT_EQ(encode_store_query({.kind = Kind::kPing, .number = 0x26cd}), "\x0d\xcd\x26\x00\x00"s);
  EXPECT_EQ(encode_store_query({.kind = Kind::kAdd, .keys = {"init/"}, .number = 1}),
            "\x04\x05\0\0\0\0\0\0\0init/\x01\0\0\0\0\0\0\0"s);
  EXPECT_EQ(encode_store_query({.kind = Kind::kWait, .keys = {"/a", "/zz"}}),
            "\x06\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0/a\x03\0\0\0\0\0\0\0/zz"s);
  EXPECT_EQ(encode_store_query({.kind = Kind::kMultiSet, .keys = {"/m"}, .values = {"x"}}),
            "\x0b\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0/m\x01\0\0\0\0\0\0\0x"s);
}

TEST(StoreWire, EveryKindComesBackByteByByte) {
  std::mt19937 random(1);
  std::string bytes;
  for (const auto& query : one_of_each_kind()) bytes += encode_store_query(query);
  EXPECT_TRUE(parse(bytes, 1, random) == one_of_each_kind());
}

TEST(StoreWire, AnyQueriesComeBackInAnyPieces) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::vector<StoreQuery> sent(1 + random() % 20);
    std::string bytes;
    for (auto& query : sent) {
      query = random_query(random);
      bytes += encode_store_query(query);
    }
    ASSERT_TRUE(parse(bytes, 1 + random() % 200, random) == sent) << "seed " << seed;
  }
}

// Every stream either parses or is refused; none makes the parser hold more than its limits.
TEST(StoreWire, AnyBytesParseOrAreRefused) {
  const StoreQueryLimits limits{.max_key_bytes = 64, .max_value_bytes = 512, .max_query_bytes = 4096};
  int refused = 0;
  for (unsigned seed = 0; seed < 2000; ++seed) {
    std::mt19937 random(seed);
    std::string bytes;
    for (int i = 0; i < 5; ++i) bytes += encode_store_query(random_query(random));
    for (unsigned flips = 1 + random() % 4; flips > 0; --flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    try {
      parse(bytes, 1 + random() % 50, random, limits);
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(error.code(), ErrorCode::kProtocol) << "seed " << seed;
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(StoreWire, ATruncatedQueryIsNoQuery) {
  for (const auto& query : one_of_each_kind()) {
    const std::string bytes = encode_store_query(query);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      StoreQueryParser parser({});
      std::string_view input = std::string_view(bytes).substr(0, size);
      EXPECT_FALSE(parser.next(input)) << "kind " << static_cast<int>(query.kind) << " cut to " << size;
    }
  }
}

TEST(StoreWire, LimitsAreInclusive) {
  std::mt19937 random(1);
  const StoreQueryLimits limits{.max_key_bytes = 4, .max_value_bytes = 8, .max_query_bytes = 1000};
  const auto accepts = [&](const StoreQuery& query) {
    try {
      return parse(encode_store_query(query), 1000, random, limits).size() == 1;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kProtocol);
      return false;
    }
  };
  EXPECT_TRUE(accepts({.kind = Kind::kSet, .keys = {"1234"}, .values = {"12345678"}}));
  EXPECT_FALSE(accepts({.kind = Kind::kSet, .keys = {"12345"}, .values = {"12345678"}}));
  EXPECT_FALSE(accepts({.kind = Kind::kSet, .keys = {"1234"}, .values = {"123456789"}}));
  EXPECT_TRUE(accepts({.kind = Kind::kCheck, .keys = std::vector<std::string>(10, "1234")}));
  EXPECT_FALSE(accepts({.kind = Kind::kCheck, .keys = std::vector<std::string>(100, "1234")}));
}

// A length or a count costs nothing until its bytes have come.
TEST(StoreWire, AnUnknownKindAndAnEndlessLengthAreRefusedAtOnce) {
  using namespace std::string_literals;
  for (const auto& bytes :
       {"\x13"s, "\xff"s, "\x03\0\0\0\0\0\x01\0\0"s, "\x03\xff\xff\xff\xff\xff\xff\xff\xff"s}) {
    StoreQueryParser parser({});
    std::string_view input = bytes;
    EXPECT_THROW(parser.next(input), Error);
  }
  StoreQueryParser parser({});
  std::string_view endless_list = "\x06\xff\xff\xff\xff\xff\xff\xff\xff";
  EXPECT_FALSE(parser.next(endless_list));
}

}  // namespace
}  // namespace deepscale
