#include "comm/store/key_value_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "comm/base/error.h"

namespace deepscale {

namespace {

const std::string kNoValue;

std::optional<std::int64_t> parse_number(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool sum_overflows(std::int64_t a, std::int64_t b) {
  using Limits = std::numeric_limits<std::int64_t>;
  return b > 0 ? a > Limits::max() - b : a < Limits::min() - b;
}

}  // namespace

void KeyValueTable::set(const std::string& key, std::string value) {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    charge(key.size() + value.size(), 0);
    values_.emplace(key, std::move(value));
  } else {
    charge(value.size(), found->second.size());
    found->second = std::move(value);
  }
  key_appeared(key);
}

const std::string& KeyValueTable::get(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? kNoValue : found->second;
}

const std::string& KeyValueTable::compare_set(const std::string& key, const std::string& expected,
                                              std::string desired) {
  const auto found = values_.find(key);
  const bool matches = found == values_.end() ? expected.empty() : found->second == expected;
  if (matches) {
    set(key, std::move(desired));
    return get(key);
  }
  return found == values_.end() ? expected : found->second;
}

std::int64_t KeyValueTable::add(const std::string& key, std::int64_t delta) {
  std::int64_t number = 0;
  if (const auto found = values_.find(key); found != values_.end()) {
    const auto parsed = parse_number(found->second);
    if (!parsed) throw Error(ErrorCode::kProtocol, fmt::format("add to '{}', whose value is no number", key));
    number = *parsed;
  }
  if (sum_overflows(number, delta)) {
    throw Error(ErrorCode::kProtocol, fmt::format("add to '{}' overflows 64 bits", key));
  }
  set(key, std::to_string(number + delta));
  return number + delta;
}

void KeyValueTable::append(const std::string& key, const std::string& value) {
  const auto found = values_.find(key);
  if (found == values_.end()) return set(key, value);
  if (value.size() > limits_.max_value_bytes - std::min(limits_.max_value_bytes, found->second.size())) {
    throw Error(ErrorCode::kProtocol,
                fmt::format("append makes the value of '{}' longer than the limit of {} bytes", key,
                            limits_.max_value_bytes));
  }
  charge(value.size(), 0);
  found->second += value;
}

bool KeyValueTable::remove(const std::string& key) {
  const auto found = values_.find(key);
  if (found == values_.end()) return false;
  charge(0, key.size() + found->second.size());
  values_.erase(found);
  return true;
}

void KeyValueTable::push(const std::string& key, std::string value) {
  charge(key.size() + value.size(), 0);
  queues_[key].push_back(std::move(value));
  const auto waiters = key_waiters_.find(key);
  if (waiters == key_waiters_.end()) return;
  const Waiter first = waiters->second.front();
  waiters->second.pop_front();
  if (waiters->second.empty()) key_waiters_.erase(waiters);
  count_down(first);
}

std::size_t KeyValueTable::pop(const std::string& key, std::string& value) {
  const auto found = queues_.find(key);
  if (found == queues_.end()) return 0;
  const std::size_t length = found->second.size();
  value = std::move(found->second.front());
  charge(0, key.size() + value.size());
  found->second.pop_front();
  if (found->second.empty()) queues_.erase(found);
  return length;
}

std::size_t KeyValueTable::queue_length(const std::string& key) const {
  const auto found = queues_.find(key);
  return found == queues_.end() ? 0 : found->second.size();
}

bool KeyValueTable::exists(const std::string& key) const {
  return values_.count(key) != 0 || queues_.count(key) != 0;
}

std::vector<std::string> KeyValueTable::value_keys() const {
  std::vector<std::string> keys;
  keys.reserve(values_.size());
  for (const auto& [key, value] : values_) keys.push_back(key);
  return keys;
}

bool KeyValueTable::wait(Waiter waiter, const std::vector<std::string>& keys) {
  Waiting waiting;
  for (const auto& key : keys) {
    if (!exists(key)) waiting.keys.push_back(key);
  }
  if (waiting.keys.empty()) return true;
  waiting.missing = waiting.keys.size();
  for (const auto& key : waiting.keys) key_waiters_[key].push_back(waiter);
  waiting_.emplace(waiter, std::move(waiting));
  return false;
}

bool KeyValueTable::arrive(Waiter waiter, const std::string& key, std::int64_t world_size) {
  if (add(key, 1) >= world_size) {
    if (auto node = barrier_waiters_.extract(key); !node.empty()) {
      for (const Waiter other : node.mapped()) count_down(other);
    }
    return true;
  }
  barrier_waiters_[key].push_back(waiter);
  waiting_.emplace(waiter, Waiting{.keys = {}, .barrier = key, .missing = 1});
  return false;
}

void KeyValueTable::cancel(Waiter waiter) {
  const auto node = waiting_.extract(waiter);
  if (node.empty()) return;
  for (const auto& key : node.mapped().keys) drop_from(key_waiters_, key, waiter);
  drop_from(barrier_waiters_, node.mapped().barrier, waiter);
}

std::vector<KeyValueTable::Waiter> KeyValueTable::take_released() {
  return std::exchange(released_, {});
}

void KeyValueTable::charge(std::size_t added, std::size_t freed) {
  if (added > freed && added - freed > limits_.max_total_bytes - total_bytes_) {
    throw Error(ErrorCode::kProtocol,
                fmt::format("the store is full: its keys and values reach the limit of {} bytes",
                            limits_.max_total_bytes));
  }
  total_bytes_ = total_bytes_ + added - freed;
}

void KeyValueTable::key_appeared(const std::string& key) {
  const auto node = key_waiters_.extract(key);
  if (node.empty()) return;
  for (const Waiter waiter : node.mapped()) count_down(waiter);
}

void KeyValueTable::count_down(Waiter waiter) {
  const auto found = waiting_.find(waiter);
  if (--found->second.missing > 0) return;
  waiting_.erase(found);
  released_.push_back(waiter);
}

void KeyValueTable::drop_from(Waiters& waiters, const std::string& key, Waiter waiter) {
  const auto found = waiters.find(key);
  if (found == waiters.end()) return;
  std::erase(found->second, waiter);
  if (found->second.empty()) waiters.erase(found);
}

}  // namespace deepscale
