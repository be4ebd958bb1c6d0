#include <fmt/core.h>

#include <utility>

#include "comm/base/error.h"
#include "comm/store/store.h"

namespace deepscale {

namespace {

class PrefixStore final : public Store {
 public:
  PrefixStore(std::shared_ptr<Store> store, std::string prefix)
      : store_(std::move(store)), prefix_(std::move(prefix)) {}

  void set(std::string_view key, std::string_view value) override { store_->set(prefixed(key), value); }
  std::string get(std::string_view key, Deadline deadline) override {
    return store_->get(prefixed(key), deadline);
  }
  std::int64_t add(std::string_view key, std::int64_t delta) override {
    return store_->add(prefixed(key), delta);
  }
  std::string compare_set(std::string_view key, std::string_view expected,
                          std::string_view desired) override {
    return store_->compare_set(prefixed(key), expected, desired);
  }
  bool check(const std::vector<std::string>& keys) override { return store_->check(prefixed(keys)); }
  void wait(const std::vector<std::string>& keys, Deadline deadline) override {
    store_->wait(prefixed(keys), deadline);
  }
  bool remove(std::string_view key) override { return store_->remove(prefixed(key)); }
  std::int64_t key_count() override { return store_->key_count(); }

 private:
  std::string prefixed(std::string_view key) const { return fmt::format("{}/{}", prefix_, key); }
  std::vector<std::string> prefixed(const std::vector<std::string>& keys) const {
    std::vector<std::string> all;
    all.reserve(keys.size());
    for (const auto& key : keys) all.push_back(prefixed(key));
    return all;
  }

  const std::shared_ptr<Store> store_;
  const std::string prefix_;
};

}  // namespace

std::shared_ptr<Store> with_prefix(std::shared_ptr<Store> store, std::string prefix) {
  return std::make_shared<PrefixStore>(std::move(store), std::move(prefix));
}

void store_barrier(Store& store, std::string_view name, int world_size, Deadline deadline) {
  const std::string arrived_key = fmt::format("barrier/{}/arrived", name);
  const std::string complete_key = fmt::format("barrier/{}/complete", name);
  const std::int64_t arrived = store.add(arrived_key, 1);
  if (arrived > world_size) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("barrier '{}' of {} ranks was entered {} times; a name serves one barrier", name,
                            world_size, arrived));
  }
  if (arrived == world_size) return store.set(complete_key, "1");
  try {
    store.wait({complete_key}, deadline);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kTimeout) throw;
    throw Error(ErrorCode::kTimeout, fmt::format("barrier '{}': {} of {} ranks had come by its deadline; {}",
                                                 name, store.add(arrived_key, 0), world_size, error.what()));
  }
}

}  // namespace deepscale
