// Which buckets of a PartitionPlan have all their gradients in the current backward pass.
//
// Collectives must start in the same order on every rank, while gradients arrive in any order and some not at
// all. So buckets are released strictly by index: bucket k when all its parameters are ready and buckets 0 ..
// k-1 are released. Parameters whose gradient never came are flushed at the end of the pass. Not thread-safe:
// the owner serialises calls.
//
//   begin() -> mark_ready()* -> flush() -> begin() ...
#pragma once

#include <vector>

#include "runtime/zero/partition_plan.h"

namespace deepscale {

class BucketTracker {
 public:
  explicit BucketTracker(const PartitionPlan& plan);

  // Forgets everything; a new backward pass begins.
  void begin();
  // Returns the buckets that are now released, in index order. Error(kInternal) when the parameter was ready
  // already in this pass.
  std::vector<int> mark_ready(int parameter);
  // The parameters that were not marked in this pass.
  std::vector<int> missing() const;
  // Releases all remaining buckets, in index order, with or without their missing parameters.
  std::vector<int> flush();

 private:
  std::vector<int> bucket_of_parameter_;
  std::vector<int> bucket_sizes_;
  std::vector<bool> ready_;
  std::vector<int> waiting_;  // parameters not ready yet, per bucket
  int next_bucket_ = 0;
};

}  // namespace deepscale
