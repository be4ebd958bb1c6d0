// The keys of a store and the clients that wait for them, without any socket.
//
// A key may hold a value, and besides it a queue of values; both make it exist. A waiter is a number that its
// caller chose; it waits for one thing at a time. What a change releases is collected until take_released().
// Every waiter is released once, or canceled.
//
// One thread at a time. Memory is bounded by the limits; what would pass them is Error(kProtocol) and changes
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

namespace deepscale {

struct KeyValueLimits {
  std::size_t max_value_bytes = 256 * 1024 * 1024;
  std::size_t max_total_bytes = std::size_t{4} * 1024 * 1024 * 1024;  // of all keys and values
};

class KeyValueTable {
 public:
  using Waiter = std::uint64_t;

  explicit KeyValueTable(KeyValueLimits limits) : limits_(limits) {}

  void set(const std::string& key, std::string value);
  // Empty when there is none.
  const std::string& get(const std::string& key) const;
  // Sets `desired` if the value equals `expected`, or if there is none and `expected` is empty. Returns the
  // value that holds now
  // (`expected` where there is none).
  const std::string& compare_set(const std::string& key, const std::string& expected, std::string desired);
  // Adds to the decimal number that is the value (0 when absent). Error(kProtocol) when it is no number or
  // overflows.
  std::int64_t add(const std::string& key, std::int64_t delta);
  void append(const std::string& key, const std::string& value);
  // Removes the value, not the queue. True when there was one.
  bool remove(const std::string& key);

  // A push releases one waiter, the first.
  void push(const std::string& key, std::string value);
  // Moves the first value of the queue to `value`; returns how many there were before.
  std::size_t pop(const std::string& key, std::string& value);
  std::size_t queue_length(const std::string& key) const;

  bool exists(const std::string& key) const;
  std::size_t key_count() const { return values_.size(); }  // that hold a value
  std::vector<std::string> value_keys() const;

  // True when all keys exist; else `waiter` waits until each has come into existence once.
  bool wait(Waiter waiter, const std::vector<std::string>& keys);
  // Counts an arrival under the key. True when `world_size` have arrived, which releases those that wait at
  // this barrier; else `waiter` waits.
  bool arrive(Waiter waiter, const std::string& key, std::int64_t world_size);
  void cancel(Waiter waiter);
  bool is_waiting(Waiter waiter) const { return waiting_.count(waiter) != 0; }
  std::vector<Waiter> take_released();

 private:
  // What a waiter waits for: a key stands here once for every time it is in the list of its waiters.
  struct Waiting {
    std::vector<std::string> keys;
    std::string barrier;
    std::size_t missing = 0;
  };
  using Waiters = std::unordered_map<std::string, std::deque<Waiter>>;

  void charge(std::size_t added, std::size_t freed);
  void key_appeared(const std::string& key);
  void count_down(Waiter waiter);
  static void drop_from(Waiters& waiters, const std::string& key, Waiter waiter);

  KeyValueLimits limits_;
  std::size_t total_bytes_ = 0;
  std::unordered_map<std::string, std::string> values_;
  std::unordered_map<std::string, std::deque<std::string>> queues_;
  Waiters key_waiters_;
  Waiters barrier_waiters_;
  std::unordered_map<Waiter, Waiting> waiting_;
  std::vector<Waiter> released_;
};

}  // namespace deepscale
