#include "runtime/zero/bucket_tracker.h"

#include <fmt/core.h>

#include "comm/base/error.h"

namespace deepscale {

BucketTracker::BucketTracker(const PartitionPlan& plan) {
  for (const PartitionPlan::Parameter& parameter : plan.parameters())
    bucket_of_parameter_.push_back(parameter.bucket);
  for (const PartitionPlan::Bucket& bucket : plan.buckets()) bucket_sizes_.push_back(bucket.parameter_count);
  begin();
}

void BucketTracker::begin() {
  ready_.assign(bucket_of_parameter_.size(), false);
  waiting_ = bucket_sizes_;
  next_bucket_ = 0;
}

std::vector<int> BucketTracker::mark_ready(int parameter) {
  const auto index = static_cast<std::size_t>(parameter);
  if (parameter < 0 || index >= ready_.size()) {
    throw Error(ErrorCode::kInternal,
                fmt::format("bucket tracker: no parameter {} among {}", parameter, ready_.size()));
  }
  const int bucket = bucket_of_parameter_[index];
  if (ready_[index] || bucket < next_bucket_) {
    throw Error(ErrorCode::kInternal,
                fmt::format("bucket tracker: parameter {} became ready {} in one backward pass", parameter,
                            ready_[index] ? "twice" : "after its bucket was released"));
  }
  ready_[index] = true;
  --waiting_[static_cast<std::size_t>(bucket)];

  std::vector<int> released;
  while (static_cast<std::size_t>(next_bucket_) < waiting_.size() &&
         waiting_[static_cast<std::size_t>(next_bucket_)] == 0) {
    released.push_back(next_bucket_++);
  }
  return released;
}

std::vector<int> BucketTracker::missing() const {
  std::vector<int> parameters;
  for (std::size_t i = 0; i < ready_.size(); ++i) {
    if (!ready_[i]) parameters.push_back(static_cast<int>(i));
  }
  return parameters;
}

std::vector<int> BucketTracker::flush() {
  std::vector<int> released;
  while (static_cast<std::size_t>(next_bucket_) < waiting_.size()) released.push_back(next_bucket_++);
  return released;
}

}  // namespace deepscale
