// Any bytes from several clients of the store, in any pieces: every query is answered within the limits, or
// ends its client's connection with an Error; nothing else, and the others do not notice.
//
// The input is a list of pieces: which client (1 byte), how long (1 byte), the bytes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "comm/base/error.h"
#include "comm/store/query_service.h"
#include "tests/fuzz/require.h"

namespace deepscale::testing {
namespace {

constexpr std::size_t kMaxReplyBytes = 64 * 1024;
constexpr std::size_t kMaxTotalBytes = 1024 * 1024;
constexpr StoreQueryLimits kQueryLimits = {
    .max_key_bytes = 256, .max_value_bytes = 4096, .max_query_bytes = 16 * 1024};

class Store {
 public:
  Store() {
    for (Connection& connection : connections_) open(connection);
  }

  void receive(std::size_t client, std::string_view bytes) {
    Connection& connection = connections_[client % connections_.size()];
    try {
      while (auto query = connection.parser.next(bytes)) answer(connection, std::move(*query));
    } catch (const Error&) {
      service_.forget(connection.client);
      open(connection);
    }
  }

 private:
  struct Connection {
    StoreQueryService::Client client;
    StoreQueryParser parser{kQueryLimits};
  };

  // As a client begins, so that the fuzzer need not guess the magic number.
  void open(Connection& connection) {
    connection = {.client = {.id = next_id_++}};
    std::string reply;
    service_.answer(connection.client, {.kind = StoreQueryKind::kValidate, .number = kStoreMagic}, reply);
    require(reply.empty(), "the magic number is not answered");
  }

  void answer(Connection& connection, StoreQuery query) {
    check_encoding(query);
    std::string reply;
    service_.answer(connection.client, std::move(query), reply);
    require(reply.size() <= kMaxReplyBytes + kMaxTotalBytes, "a reply is bounded");
    for (const auto waiter : service_.take_released()) {
      require(std::any_of(connections_.begin(), connections_.end(),
                          [&](const Connection& each) { return each.client.id == waiter; }),
              "who is released is connected");
    }
  }

  static void check_encoding(const StoreQuery& query) {
    const std::string bytes = encode_store_query(query);
    std::string_view rest = bytes;
    const auto again = StoreQueryParser(kQueryLimits).next(rest);
    require(again == query && rest.empty(), "an encoded query is read as it was");
  }

  StoreQueryService service_{{.max_value_bytes = 4096, .max_total_bytes = kMaxTotalBytes}, kMaxReplyBytes};
  KeyValueTable::Waiter next_id_ = 1;
  std::array<Connection, 3> connections_;
};

}  // namespace
}  // namespace deepscale::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  deepscale::testing::Store store;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  while (input.size() >= 2) {
    const auto client = static_cast<std::uint8_t>(input[0]);
    const auto length = static_cast<std::uint8_t>(input[1]);
    input.remove_prefix(2);
    store.receive(client, input.substr(0, length));
    input.remove_prefix(std::min<std::size_t>(length, input.size()));
  }
  return 0;
}
