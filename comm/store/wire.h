// The wire format of c10d's TCPStore: what a client sends, as bytes and back.
//
// A query is one byte that names its kind, then that kind's fields with nothing between them. Integers are
// little-endian: a number has 4 or 8 bytes; a key or a value is an 8-byte length and its bytes; a list is an
// 8-byte count and its items. Replies have no kind: the client knows what it asked for. Learnt from the query
// types in torch's TCPStoreBackend.hpp and from captures of torch 2.15 talking to itself.
//
// Pure: no sockets, no clock, no threads. The parser takes bytes from outside and is bounded by its limits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepscale {

enum class StoreQueryKind : std::uint8_t {
  kValidate,
  kSet,
  kCompareSet,
  kGet,
  kAdd,
  kCheck,
  kWait,
  kKeyCount,
  kDelete,
  kAppend,
  kMultiGet,
  kMultiSet,
  kCancelWait,
  kPing,
  kQueuePush,
  kQueuePop,
  kQueueLength,
  kListKeys,
  kBarrier,
};
inline constexpr int kStoreQueryKinds = 19;

inline constexpr std::uint32_t kStoreMagic = 0x3C85F7CE;  // the number of kValidate, a client's first query
// c10d's client puts this before every key of its user, which leaves the rest of the key space to its own
// bookkeeping.
inline constexpr std::string_view kStoreUserKeyPrefix = "/";

// One-byte replies: to kCheck, and to kWait, kCancelWait and kBarrier.
inline constexpr char kStoreReady = 0;
inline constexpr char kStoreNotReady = 1;
inline constexpr char kStoreStopWaiting = 0;
inline constexpr char kStoreWaitCanceled = 1;

struct StoreQuery {
  StoreQueryKind kind = StoreQueryKind::kPing;
  std::vector<std::string> keys;    // kMultiSet: as many values as keys; others as their kind says
  std::vector<std::string> values;  // kCompareSet: expected, desired
  // The magic of kValidate, the nonce of kPing, the delta of kAdd, the world size of kBarrier.
  std::int64_t number = 0;
  bool operator==(const StoreQuery&) const = default;
};

std::string encode_store_query(const StoreQuery& query);

// For queries and replies alike.
void append_store_integer(std::string& out, std::uint64_t value, std::size_t bytes = 8);
void append_store_bytes(std::string& out, std::string_view bytes);  // with its length before it
std::uint64_t decode_store_integer(std::string_view bytes);

struct StoreQueryLimits {
  std::size_t max_key_bytes = 64 * 1024;
  std::size_t max_value_bytes = 256 * 1024 * 1024;
  std::size_t max_query_bytes = 512 * 1024 * 1024;  // memory of all keys and values of one query
};

// Cuts a stream of bytes into queries. Bytes may come in pieces of any size; memory grows only with bytes
// that came.
class StoreQueryParser {
 public:
  explicit StoreQueryParser(StoreQueryLimits limits) : limits_(limits) {}

  // Takes bytes from the front of `input` up to the end of one query and returns it; nothing when `input` ran
  // out before. Error(kProtocol) on an unknown kind or a field beyond the limits; the stream cannot be read
  // any further then.
  std::optional<StoreQuery> next(std::string_view& input);

 private:
  void begin(std::uint8_t kind);
  bool take_field(std::string_view& input);
  bool take_integer(std::string_view& input, std::size_t bytes);
  bool take_string(std::string_view& input, std::vector<std::string>& into, std::size_t max_bytes);
  void advance();
  void charge(std::uint64_t bytes);

  StoreQueryLimits limits_;
  StoreQuery query_;
  std::optional<std::string_view>
      fields_;                    // those of the query's kind that are still to come; nothing between queries
  std::string_view repeated_;     // the fields of one item, in a list
  std::uint64_t items_left_ = 0;  // of the list, including the one being read
  std::array<char, 8> integer_bytes_{};
  std::size_t integer_size_ = 0;              // of those, how many are there
  std::uint64_t integer_ = 0;                 // the last one that was complete
  std::optional<std::uint64_t> string_left_;  // bytes of the string being read that are still to come
  std::uint64_t charged_ = 0;
};

}  // namespace deepscale
