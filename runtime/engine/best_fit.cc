#include "runtime/engine/best_fit.h"

#include <algorithm>
#include <iterator>

namespace deepscale {

void BestFit::add_free(std::size_t offset, std::size_t size) {
  free_.emplace(offset, size);
  free_by_size_.emplace(size, offset);
}

void BestFit::remove_free(std::map<std::size_t, std::size_t>::iterator range) {
  free_by_size_.erase({range->second, range->first});
  free_.erase(range);
}

std::optional<std::size_t> BestFit::take(std::size_t size) {
  const auto found = free_by_size_.lower_bound({size, 0});
  if (found == free_by_size_.end()) return std::nullopt;
  const auto [free_size, offset] = *found;
  remove_free(free_.find(offset));
  if (free_size > size) add_free(offset + size, free_size - size);
  taken_.emplace(offset, size);
  greatest_end_ = std::max(greatest_end_, offset + size);
  return offset;
}

void BestFit::give_back(std::size_t offset) {
  const auto taken = taken_.find(offset);
  std::size_t size = taken->second;
  taken_.erase(taken);
  const auto after = free_.find(offset + size);
  if (after != free_.end()) {
    size += after->second;
    remove_free(after);
  }
  const auto next = free_.lower_bound(offset);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      offset = before->first;
      size += before->second;
      remove_free(before);
    }
  }
  add_free(offset, size);
}

std::size_t BestFit::end() const {
  return taken_.empty() ? 0 : taken_.rbegin()->first + taken_.rbegin()->second;
}

}  // namespace deepscale
