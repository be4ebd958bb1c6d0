#include <fmt/core.h>

#include <algorithm>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "comm/base/error.h"
#include "comm/store/connection.h"
#include "comm/store/store.h"
#include "comm/store/wire.h"

namespace deepscale {

namespace {

// A query that waits for no key is answered at once; a server that takes longer than this hangs.
constexpr auto kReplyTime = std::chrono::minutes(5);
// After a wait that succeeded, the value is on its way, even if the caller's own deadline passes meanwhile.
constexpr auto kReplyGrace = std::chrono::seconds(10);
constexpr auto kFirstRetry = std::chrono::milliseconds(5);
constexpr auto kLastRetry = std::chrono::milliseconds(250);
constexpr std::uint64_t kMaxReplyBytes = std::uint64_t{1} << 30;

std::string describe_keys(const std::vector<std::string>& keys) {
  constexpr std::size_t kShown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(keys.size(), kShown); ++i) {
    text += fmt::format("{}'{}'", i == 0 ? "" : ", ", keys[i].substr(kStoreUserKeyPrefix.size()));
  }
  if (keys.size() > kShown) text += fmt::format(" and {} more", keys.size() - kShown);
  return text;
}

std::string describe(const StoreQuery& query) {
  switch (query.kind) {
    case StoreQueryKind::kSet:
      return fmt::format("set {}", describe_keys(query.keys));
    case StoreQueryKind::kGet:
      return fmt::format("get {}", describe_keys(query.keys));
    case StoreQueryKind::kAdd:
      return fmt::format("add to {}", describe_keys(query.keys));
    case StoreQueryKind::kCompareSet:
      return fmt::format("compare and set {}", describe_keys(query.keys));
    case StoreQueryKind::kCheck:
      return fmt::format("check {}", describe_keys(query.keys));
    case StoreQueryKind::kWait:
      return fmt::format("wait for {}", describe_keys(query.keys));
    case StoreQueryKind::kCancelWait:
      return "give up a wait";
    case StoreQueryKind::kDelete:
      return fmt::format("remove {}", describe_keys(query.keys));
    case StoreQueryKind::kKeyCount:
      return "count the keys";
    default:
      return "greet";
  }
}

std::string user_key(std::string_view key) {
  return fmt::format("{}{}", kStoreUserKeyPrefix, key);
}

std::vector<std::string> user_keys(const std::vector<std::string>& keys) {
  std::vector<std::string> prefixed;
  prefixed.reserve(keys.size());
  for (const auto& key : keys) prefixed.push_back(user_key(key));
  return prefixed;
}

class TcpStore final : public Store {
 public:
  TcpStore(const std::string& host, int port)
      : host_(host),
        port_(port),
        where_(host.find(':') == host.npos ? fmt::format("{}:{}", host, port)
                                           : fmt::format("[{}]:{}", host, port)) {}

  // Before anything else; again until it succeeds. Error(kProtocol) when whoever listens there is no store.
  std::error_code connect(Deadline deadline);
  const std::string& where() const { return where_; }

  void set(std::string_view key, std::string_view value) override {
    const std::lock_guard lock(mutex_);
    send({.kind = StoreQueryKind::kSet, .keys = {user_key(key)}, .values = {std::string(value)}});
  }

  std::string get(std::string_view key, Deadline deadline) override {
    const std::lock_guard lock(mutex_);
    const std::vector<std::string> keys{user_key(key)};
    await(keys, deadline);
    const StoreQuery query{.kind = StoreQueryKind::kGet, .keys = keys};
    send(query);
    return receive_string(query, Deadline::at(std::max(deadline.time(), Clock::now() + kReplyGrace)));
  }

  std::int64_t add(std::string_view key, std::int64_t delta) override {
    return ask_number({.kind = StoreQueryKind::kAdd, .keys = {user_key(key)}, .number = delta});
  }

  std::string compare_set(std::string_view key, std::string_view expected,
                          std::string_view desired) override {
    const std::lock_guard lock(mutex_);
    const StoreQuery query{.kind = StoreQueryKind::kCompareSet,
                           .keys = {user_key(key)},
                           .values = {std::string(expected), std::string(desired)}};
    send(query);
    return receive_string(query, Deadline::after(kReplyTime));
  }

  bool check(const std::vector<std::string>& keys) override {
    const std::lock_guard lock(mutex_);
    const StoreQuery query{.kind = StoreQueryKind::kCheck, .keys = user_keys(keys)};
    send(query);
    return receive_byte(query, Deadline::after(kReplyTime)) == kStoreReady;
  }

  void wait(const std::vector<std::string>& keys, Deadline deadline) override {
    const std::lock_guard lock(mutex_);
    await(user_keys(keys), deadline);
  }

  bool remove(std::string_view key) override {
    return ask_number({.kind = StoreQueryKind::kDelete, .keys = {user_key(key)}}) > 0;
  }

  std::int64_t key_count() override { return ask_number({.kind = StoreQueryKind::kKeyCount}); }

 private:
  void await(const std::vector<std::string>& keys, Deadline deadline);
  std::int64_t ask_number(const StoreQuery& query);
  void send(const StoreQuery& query);
  void receive(const StoreQuery& query, char* into, std::size_t size, Deadline deadline);
  char receive_byte(const StoreQuery& query, Deadline deadline);
  std::uint64_t receive_number(const StoreQuery& query, Deadline deadline);
  std::string receive_string(const StoreQuery& query, Deadline deadline);
  [[noreturn]] void fail(const StoreQuery& query, std::error_code failure);

  const std::string host_;
  const int port_;
  const std::string where_;
  std::mutex mutex_;
  StoreConnection connection_;
  bool cancel_unanswered_ = false;  // the reply to a kCancelWait comes before that to the next query
  std::string lost_;                // why the connection is of no use any more; empty while it is
};

std::error_code TcpStore::connect(Deadline deadline) {
  if (const std::error_code failure = connection_.connect(host_, port_, deadline)) return failure;
  const auto nonce = static_cast<std::uint32_t>(std::random_device{}());
  const std::string greeting =
      encode_store_query({.kind = StoreQueryKind::kValidate, .number = kStoreMagic}) +
      encode_store_query({.kind = StoreQueryKind::kPing, .number = nonce});
  if (const std::error_code failure = connection_.send(greeting, deadline)) return failure;
  std::string reply(sizeof(nonce), '\0');
  if (const std::error_code failure = connection_.receive(reply.data(), reply.size(), deadline))
    return failure;
  if (decode_store_integer(reply) != nonce) {
    throw Error(
        ErrorCode::kProtocol,
        fmt::format("something that is no store listens at {}; check MASTER_ADDR and MASTER_PORT", where_));
  }
  return {};
}

// Returns when all keys exist. After Error(kTimeout) the connection is as good as before.
void TcpStore::await(const std::vector<std::string>& keys, Deadline deadline) {
  const StoreQuery query{.kind = StoreQueryKind::kWait, .keys = keys};
  send(query);
  char reply = kStoreStopWaiting;
  const std::error_code failure = connection_.receive(&reply, 1, deadline);
  if (failure == std::make_error_code(std::errc::timed_out)) {
    send({.kind = StoreQueryKind::kCancelWait});
    cancel_unanswered_ = true;
    throw Error(ErrorCode::kTimeout,
                fmt::format("store {}: {} did not appear before the deadline; whoever sets it "
                            "is late or has failed",
                            where_, describe_keys(keys)));
  }
  if (failure) fail(query, failure);
  if (reply != kStoreStopWaiting) fail(query, std::make_error_code(std::errc::protocol_error));
}

std::int64_t TcpStore::ask_number(const StoreQuery& query) {
  const std::lock_guard lock(mutex_);
  send(query);
  return static_cast<std::int64_t>(receive_number(query, Deadline::after(kReplyTime)));
}

void TcpStore::send(const StoreQuery& query) {
  if (!lost_.empty()) throw Error(ErrorCode::kPeerLost, lost_);
  if (std::exchange(cancel_unanswered_, false)) {
    const Deadline deadline = Deadline::after(kReplyGrace);
    // What the wait was for may have come just before the server read that we gave up.
    if (receive_byte(query, deadline) == kStoreStopWaiting) receive_byte(query, deadline);
  }
  const std::error_code failure = connection_.send(encode_store_query(query), Deadline::after(kReplyTime));
  if (failure) fail(query, failure);
}

void TcpStore::receive(const StoreQuery& query, char* into, std::size_t size, Deadline deadline) {
  if (const std::error_code failure = connection_.receive(into, size, deadline)) fail(query, failure);
}

char TcpStore::receive_byte(const StoreQuery& query, Deadline deadline) {
  char byte = 0;
  receive(query, &byte, 1, deadline);
  return byte;
}

std::uint64_t TcpStore::receive_number(const StoreQuery& query, Deadline deadline) {
  std::string bytes(8, '\0');
  receive(query, bytes.data(), bytes.size(), deadline);
  return decode_store_integer(bytes);
}

std::string TcpStore::receive_string(const StoreQuery& query, Deadline deadline) {
  const std::uint64_t size = receive_number(query, deadline);
  if (size > kMaxReplyBytes) fail(query, std::make_error_code(std::errc::message_size));
  std::string bytes(static_cast<std::size_t>(size), '\0');
  receive(query, bytes.data(), bytes.size(), deadline);
  return bytes;
}

// The stream cannot be used after a failure: nobody knows to which query the next bytes belong.
void TcpStore::fail(const StoreQuery& query, std::error_code failure) {
  connection_.close();
  lost_ = fmt::format("store {}: the connection ended earlier ({})", where_, failure.message());
  if (failure == std::make_error_code(std::errc::timed_out)) {
    throw Error(ErrorCode::kTimeout,
                fmt::format("store {}: no reply to '{}'; the process that serves the store hangs, or "
                            "the network to it is cut",
                            where_, describe(query)));
  }
  throw Error(
      ErrorCode::kPeerLost,
      fmt::format(
          "store {}: the connection ended during '{}' ({}); the process that serves the store has ended, "
          "or it refused the query (its log says why)",
          where_, describe(query), failure.message()));
}

}  // namespace

std::unique_ptr<Store> connect_store(const std::string& host, int port, Deadline deadline) {
  if (host.empty() || port < 1 || port > 65535) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("'{}:{}' is no address of a store: it needs a host and a port from 1 to 65535",
                            host, port));
  }
  auto store = std::make_unique<TcpStore>(host, port);
  for (Clock::duration pause = kFirstRetry;; pause = std::min<Clock::duration>(2 * pause, kLastRetry)) {
    const std::error_code failure = store->connect(deadline);
    if (!failure) return store;
    if (deadline.has_passed()) {
      throw Error(
          ErrorCode::kTimeout,
          fmt::format(
              "no store answered at {} before the deadline ({}); check that whoever serves it runs (the "
              "launcher, or rank 0), and MASTER_ADDR, MASTER_PORT and firewalls",
              store->where(), failure.message()));
    }
    // Nothing here tells when somebody begins to listen elsewhere.
    std::this_thread::sleep_for(std::min(pause, deadline.remaining()));
  }
}

}  // namespace deepscale
