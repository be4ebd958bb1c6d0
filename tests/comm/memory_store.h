// A Store inside one process, for tests whose ranks are threads.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>

#include "comm/base/error.h"
#include "comm/store/store.h"

namespace deepscale {

class MemoryStore : public Store {
 public:
  void set(std::string_view key, std::string_view value) override {
    const std::lock_guard lock(mutex_);
    values_[std::string(key)] = value;
    changed_.notify_all();
  }
  std::string get(std::string_view key, Deadline deadline) override {
    wait({std::string(key)}, deadline);
    const std::lock_guard lock(mutex_);
    return values_.at(std::string(key));
  }
  std::int64_t add(std::string_view key, std::int64_t delta) override {
    const std::lock_guard lock(mutex_);
    std::string& value = values_[std::string(key)];
    const std::int64_t sum = (value.empty() ? 0 : std::stoll(value)) + delta;
    value = std::to_string(sum);
    changed_.notify_all();
    return sum;
  }
  std::string compare_set(std::string_view key, std::string_view expected,
                          std::string_view desired) override {
    const std::lock_guard lock(mutex_);
    const auto found = values_.find(std::string(key));
    if (found == values_.end() && !expected.empty()) return std::string(expected);
    if (found != values_.end() && found->second != expected) return found->second;
    values_[std::string(key)] = desired;
    changed_.notify_all();
    return std::string(desired);
  }
  bool check(const std::vector<std::string>& keys) override {
    const std::lock_guard lock(mutex_);
    return has_all(keys);
  }
  void wait(const std::vector<std::string>& keys, Deadline deadline) override {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline.time(), [&] { return has_all(keys); })) {
      throw Error(ErrorCode::kTimeout, "the memory store has no key '" + keys.front() + "'");
    }
  }
  bool remove(std::string_view key) override {
    const std::lock_guard lock(mutex_);
    return values_.erase(std::string(key)) > 0;
  }
  std::int64_t key_count() override {
    const std::lock_guard lock(mutex_);
    return static_cast<std::int64_t>(values_.size());
  }

 private:
  bool has_all(const std::vector<std::string>& keys) const {
    for (const std::string& key : keys) {
      if (!values_.contains(key)) return false;
    }
    return true;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
};

}  // namespace deepscale
