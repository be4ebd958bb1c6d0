// What each query of the store does and what is replied, without any socket: a KeyValueTable that speaks the
// wire format.
//
// One thread at a time. Error(kProtocol) from answer() means that this client's connection must end; the
// store is unharmed.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "comm/store/key_value_table.h"
#include "comm/store/wire.h"

namespace deepscale {

class StoreQueryService {
 public:
  // One connection, owned by the caller, who calls forget() at its end.
  struct Client {
    KeyValueTable::Waiter id = 0;  // unique among the clients
    bool validated = false;        // it has begun with the magic number
  };

  StoreQueryService(KeyValueLimits limits, std::size_t max_reply_bytes)
      : table_(limits), max_reply_bytes_(max_reply_bytes) {}

  // Appends what is to be sent to `client` now. A query that waits gets its reply later: see take_released().
  void answer(Client& client, StoreQuery query, std::string& reply);
  // The clients whose wait is over; kStoreStopWaiting is to be sent to each.
  std::vector<KeyValueTable::Waiter> take_released() { return table_.take_released(); }
  void forget(const Client& client) { table_.cancel(client.id); }

 private:
  void change(StoreQuery& query, std::string& reply);
  void read(const StoreQuery& query, std::string& reply) const;
  void wait(const Client& client, const StoreQuery& query, std::string& reply);
  void append_values(const std::vector<std::string>& keys, std::string& reply) const;
  bool all_exist(const std::vector<std::string>& keys) const;

  KeyValueTable table_;
  std::size_t max_reply_bytes_;
};

}  // namespace deepscale
