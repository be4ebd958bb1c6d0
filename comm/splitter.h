// What the backends make Communicator::split() of: the ranks tell each other their colors and keys through
// the communicator itself, and those of one color meet under a name in the store that nobody else takes.
//
// One for each communicator, and like it used from one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace deepscale {

class Splitter {
 public:
  using Make = std::unique_ptr<Communicator>(int rank, int world_size, std::shared_ptr<Store> store,
                                             CommunicatorOptions options);

  // Those of the communicator that is split; `store` may be null when it has one rank.
  Splitter(std::shared_ptr<Store> store, CommunicatorOptions options)
      : store_(std::move(store)), options_(std::move(options)) {}

  // A collective of `parent`. Null for a negative color.
  std::unique_ptr<Communicator> split(Communicator& parent, int color, int key, Make& make);

  // The ranks of `parent` that have the same color as this one, in the order of their keys; empty for a
  // negative color. A collective; every call draws another name for child_options().
  std::vector<int> meet(Communicator& parent, int color, int key);
  CommunicatorOptions child_options(int color) const;

 private:
  const std::shared_ptr<Store> store_;
  const CommunicatorOptions options_;
  std::uint64_t splits_ = 0;
};

}  // namespace deepscale
