// Which ranges of an address space are taken: the smallest free one that is large enough is taken first, the
// lowest of several, and neighbours become one again. Where the same sizes come and go in every step, little
// is lost between them.
//
// One thread. Offsets and sizes are in units of the caller's; none is 0 bytes long.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace deepscale {

class BestFit {
 public:
  explicit BestFit(std::size_t size) { add_free(0, size); }

  // Where it begins; nothing where no free range is as large.
  std::optional<std::size_t> take(std::size_t size);
  // Of what take() gave.
  void give_back(std::size_t offset);

  // Where the last taken range ends: 0 if there is none.
  std::size_t end() const;
  // The greatest end() since the last call.
  std::size_t exchange_greatest_end() { return std::exchange(greatest_end_, end()); }
  const std::map<std::size_t, std::size_t>& free() const { return free_; }  // offset -> size

 private:
  void add_free(std::size_t offset, std::size_t size);
  void remove_free(std::map<std::size_t, std::size_t>::iterator range);

  std::map<std::size_t, std::size_t> free_, taken_;             // offset -> size
  std::set<std::pair<std::size_t, std::size_t>> free_by_size_;  // size, offset
  std::size_t greatest_end_ = 0;
};

}  // namespace deepscale
