#include "comm/splitter.h"

#include <fmt/core.h>

#include <algorithm>

namespace deepscale {

namespace {

struct Wish {
  std::int64_t color = 0;
  std::int64_t key = 0;
};

}  // namespace

std::unique_ptr<Communicator> Splitter::split(Communicator& parent, int color, int key, Make& make) {
  const std::vector<int> members = meet(parent, color, key);
  if (members.empty()) return nullptr;
  const auto own = std::find(members.begin(), members.end(), parent.rank());
  return make(static_cast<int>(own - members.begin()), static_cast<int>(members.size()), store_,
              child_options(color));
}

std::vector<int> Splitter::meet(Communicator& parent, int color, int key) {
  ++splits_;
  Wish own{color, key};
  std::vector<Wish> wishes(static_cast<std::size_t>(parent.size()));
  parent
      .all_gather({.data = &own, .count = 2, .dtype = DType::kInt64},
                  {.data = wishes.data(), .count = 2 * std::int64_t{parent.size()}, .dtype = DType::kInt64})
      .wait();
  std::vector<int> members;
  for (int rank = 0; color >= 0 && rank < parent.size(); ++rank) {
    if (wishes[static_cast<std::size_t>(rank)].color == color) members.push_back(rank);
  }
  std::stable_sort(members.begin(), members.end(), [&](int left, int right) {
    return wishes[static_cast<std::size_t>(left)].key < wishes[static_cast<std::size_t>(right)].key;
  });
  return members;
}

CommunicatorOptions Splitter::child_options(int color) const {
  CommunicatorOptions options = options_;
  options.name += fmt::format("/split {} color {}", splits_, color);
  return options;
}

}  // namespace deepscale
