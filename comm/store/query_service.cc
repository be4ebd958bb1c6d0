#include "comm/store/query_service.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "comm/base/error.h"

namespace deepscale {

void StoreQueryService::answer(Client& client, StoreQuery query, std::string& reply) {
  if (client.validated == (query.kind == StoreQueryKind::kValidate)) {
    throw Error(ErrorCode::kProtocol, "a client of the store begins with its magic number, once");
  }
  switch (query.kind) {
    case StoreQueryKind::kValidate:
      if (query.number != kStoreMagic) {
        throw Error(ErrorCode::kProtocol,
                    fmt::format("the magic number is {:#x}, not {:#x}", query.number, kStoreMagic));
      }
      client.validated = true;
      return;
    case StoreQueryKind::kPing:
      return append_store_integer(reply, static_cast<std::uint64_t>(query.number), 4);
    case StoreQueryKind::kWait:
    case StoreQueryKind::kBarrier:
    case StoreQueryKind::kCancelWait:
      return wait(client, query, reply);
    case StoreQueryKind::kGet:
    case StoreQueryKind::kMultiGet:
    case StoreQueryKind::kCheck:
    case StoreQueryKind::kKeyCount:
    case StoreQueryKind::kListKeys:
    case StoreQueryKind::kQueueLength:
      return read(query, reply);
    default:
      return change(query, reply);
  }
}

void StoreQueryService::change(StoreQuery& query, std::string& reply) {
  auto& keys = query.keys;
  auto& values = query.values;
  switch (query.kind) {
    case StoreQueryKind::kSet:
      return table_.set(keys[0], std::move(values[0]));
    case StoreQueryKind::kAppend:
      return table_.append(keys[0], values[0]);
    case StoreQueryKind::kQueuePush:
      return table_.push(keys[0], std::move(values[0]));
    case StoreQueryKind::kMultiSet:
      for (std::size_t i = 0; i < keys.size(); ++i) table_.set(keys[i], std::move(values[i]));
      return;
    case StoreQueryKind::kCompareSet:
      return append_store_bytes(reply, table_.compare_set(keys[0], values[0], std::move(values[1])));
    case StoreQueryKind::kAdd:
      return append_store_integer(reply, static_cast<std::uint64_t>(table_.add(keys[0], query.number)));
    case StoreQueryKind::kDelete:
      return append_store_integer(reply, table_.remove(keys[0]) ? 1 : 0);
    case StoreQueryKind::kQueuePop: {
      std::string value;
      const std::size_t length = table_.pop(keys[0], value);
      append_store_integer(reply, length);
      if (length > 0) append_store_bytes(reply, value);
      return;
    }
    default:
      throw Error(ErrorCode::kInternal, "a kind of store query that nothing handles");
  }
}

void StoreQueryService::read(const StoreQuery& query, std::string& reply) const {
  switch (query.kind) {
    case StoreQueryKind::kGet:
    case StoreQueryKind::kMultiGet:
      return append_values(query.keys, reply);
    case StoreQueryKind::kCheck:
      return reply.push_back(all_exist(query.keys) ? kStoreReady : kStoreNotReady);
    case StoreQueryKind::kKeyCount:
      return append_store_integer(reply, table_.key_count());
    case StoreQueryKind::kQueueLength:
      return append_store_integer(reply, table_.queue_length(query.keys[0]));
    case StoreQueryKind::kListKeys: {
      const auto keys = table_.value_keys();
      append_store_integer(reply, keys.size());
      for (const auto& key : keys) append_store_bytes(reply, key);
      return;
    }
    default:
      throw Error(ErrorCode::kInternal, "a kind of store query that nothing handles");
  }
}

void StoreQueryService::wait(const Client& client, const StoreQuery& query, std::string& reply) {
  if (query.kind == StoreQueryKind::kCancelWait) {
    table_.cancel(client.id);
    return reply.push_back(kStoreWaitCanceled);
  }
  // The replies to two waits could not be told apart.
  if (table_.is_waiting(client.id))
    throw Error(ErrorCode::kProtocol, "a second wait before the first one's end");
  const bool ready = query.kind == StoreQueryKind::kWait
                         ? table_.wait(client.id, query.keys)
                         : table_.arrive(client.id, query.keys[0], query.number);
  if (ready) reply.push_back(kStoreStopWaiting);
}

void StoreQueryService::append_values(const std::vector<std::string>& keys, std::string& reply) const {
  // One short query can ask for the same long value many times.
  std::size_t bytes = 0;
  for (const auto& key : keys) bytes += table_.get(key).size();
  if (bytes > max_reply_bytes_) {
    throw Error(ErrorCode::kProtocol,
                fmt::format("a reply of {} bytes is over the limit of {}", bytes, max_reply_bytes_));
  }
  for (const auto& key : keys) append_store_bytes(reply, table_.get(key));
}

bool StoreQueryService::all_exist(const std::vector<std::string>& keys) const {
  return std::all_of(keys.begin(), keys.end(), [this](const auto& key) { return table_.exists(key); });
}

}  // namespace deepscale
