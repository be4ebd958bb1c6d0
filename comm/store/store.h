// The rendezvous key-value store, seen from a rank.
//
// Keys and values are bytes. A key holds one value; add() treats the value as decimal text, as c10d does. All
// methods may be called from any thread; calls on one Store are served one after the other, so a blocked
// get() blocks the others: take a second connection where that matters. Every blocking call takes a Deadline
// and throws Error(kTimeout), naming the keys and the server, when it passes; Error(kPeerLost) when the
// server is gone, which is final for this Store.
//
// Wire protocol: that of c10d's TCPStore (torch/csrc/distributed/c10d/TCPStore.hpp), so ranks that use
// torch.distributed with env:// and ours meet in the same server. See docs/launcher.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/world_layout.h"

namespace deepscale {

class Store {
 public:
  virtual ~Store() = default;

  virtual void set(std::string_view key, std::string_view value) = 0;
  // Waits until the key exists.
  virtual std::string get(std::string_view key, Deadline deadline) = 0;
  // Adds to the number under the key (0 when absent) and returns the sum.
  virtual std::int64_t add(std::string_view key, std::int64_t delta) = 0;
  // Sets `desired` if the value equals `expected`, or if the key is absent and `expected` is empty. Returns
  // the value that holds now
  // (`expected` itself when the key is absent and `expected` is not empty).
  virtual std::string compare_set(std::string_view key, std::string_view expected,
                                  std::string_view desired) = 0;
  // True when all keys exist. Does not wait.
  virtual bool check(const std::vector<std::string>& keys) = 0;
  // Waits until all keys exist.
  virtual void wait(const std::vector<std::string>& keys, Deadline deadline) = 0;
  // True when the key existed.
  virtual bool remove(std::string_view key) = 0;
  virtual std::int64_t key_count() = 0;
};

// Connects to a server, retrying until the deadline while nobody listens there yet.
std::unique_ptr<Store> connect_store(const std::string& host, int port, Deadline deadline);

// The same store under a key prefix ("prefix/key"): one server serves many communicators and generations.
// Shares ownership.
std::shared_ptr<Store> with_prefix(std::shared_ptr<Store> store, std::string prefix);

// All `world_size` callers leave together. `name` must be used once per store. Error(kTimeout) tells how many
// had come.
void store_barrier(Store& store, std::string_view name, int world_size, Deadline deadline);

// The store of this job, however its ranks were started: the launcher's where it serves one; else rank 0
// serves it inside its own process, on MASTER_ADDR:MASTER_PORT where set, or on a free loopback port that the
// ranks of one host tell each other through a file named after their common parent process (mpirun, srun).
// The object owns the server where it runs one. World size 1 needs no store: Error(kInvalidArgument).
std::shared_ptr<Store> join_job_store(const WorldLayout& layout, const Logger& logger, Deadline deadline);

}  // namespace deepscale
