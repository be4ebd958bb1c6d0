#include "runtime/zero/partition_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "comm/base/error.h"

namespace deepscale {
namespace {

constexpr std::int64_t kSmallBucketNumel = 1 << 20;
// Leaves room for the padding of the last bucket, so that no sum below can overflow.
constexpr std::int64_t kMaxArenaNumel = std::numeric_limits<std::int64_t>::max() / 4;

void check_options(const PartitionOptions& options) {
  const auto require_positive = [](const char* name, std::int64_t value) {
    if (value >= 1) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("partition plan: {} must be at least 1, got {}", name, value));
  };
  require_positive("world_size", options.world_size);
  require_positive("bucket_numel", options.bucket_numel);
  require_positive("alignment", options.alignment);
  if (options.alignment > kMaxArenaNumel / options.world_size) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("partition plan: an alignment of {} elements on {} ranks is too large",
                            options.alignment, options.world_size));
  }
}

void check_numel(std::int64_t numel, std::size_t parameter, std::int64_t arena_numel) {
  if (numel < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("partition plan: parameter {} has {} elements", parameter, numel));
  }
  if (numel > kMaxArenaNumel - arena_numel) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("partition plan: with parameter {} the arena exceeds {} elements", parameter,
                            kMaxArenaNumel));
  }
}

}  // namespace

std::int64_t default_bucket_numel(std::int64_t model_numel) {
  constexpr std::int64_t kBucketsPerModel = 64;
  return std::max(model_numel / kBucketsPerModel, kSmallBucketNumel);
}

std::int64_t default_unit_numel(std::int64_t model_numel) {
  constexpr std::int64_t kUnitsPerModel = 8;
  return std::max(model_numel / kUnitsPerModel, kSmallBucketNumel);
}

PartitionPlan::PartitionPlan(const std::vector<std::int64_t>& parameter_numels,
                             const PartitionOptions& options)
    : world_size_(options.world_size) {
  check_options(options);
  if (!options.groups.empty() && options.groups.size() != parameter_numels.size()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("partition plan: {} groups for {} parameters",
                                                         options.groups.size(), parameter_numels.size()));
  }
  const std::int64_t unit = options.world_size * options.alignment;

  const auto open_bucket = [&] {
    buckets_.push_back({.offset = arena_numel_,
                        .numel = 0,
                        .padding = 0,
                        .shard_offset = arena_numel_ / world_size_,
                        .first_parameter = static_cast<int>(parameters_.size()),
                        .parameter_count = 0});
  };
  const auto close_bucket = [&] {
    Bucket& bucket = buckets_.back();
    bucket.padding = (unit - bucket.numel % unit) % unit;
    bucket.numel += bucket.padding;
    arena_numel_ += bucket.padding;
  };

  int group_of_bucket = 0;
  for (const std::int64_t numel : parameter_numels) {
    check_numel(numel, parameters_.size(), arena_numel_);
    const int group = options.groups.empty() ? 0 : options.groups[parameters_.size()];
    if (buckets_.empty()) {
      open_bucket();
    } else if (const std::int64_t filled = buckets_.back().numel;
               // An empty parameter fits anywhere, so no bucket without elements is opened for it.
               filled > 0 && numel > 0 &&
               (filled + numel > options.bucket_numel || group != group_of_bucket)) {
      close_bucket();
      open_bucket();
    }
    if (numel > 0) group_of_bucket = group;
    parameters_.push_back(
        {.bucket = static_cast<int>(buckets_.size()) - 1, .offset = arena_numel_, .numel = numel});
    buckets_.back().numel += numel;
    ++buckets_.back().parameter_count;
    arena_numel_ += numel;
  }
  if (!buckets_.empty()) close_bucket();
}

std::int64_t PartitionPlan::slice_offset(int bucket, int rank) const {
  return buckets_[static_cast<std::size_t>(bucket)].offset + rank * slice_numel(bucket);
}

PartitionPlan::Location PartitionPlan::locate(int parameter, std::int64_t index) const {
  if (parameter < 0 || static_cast<std::size_t>(parameter) >= parameters_.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("partition plan: no parameter {} among {}", parameter, parameters_.size()));
  }
  const Parameter& owner = parameters_[static_cast<std::size_t>(parameter)];
  if (index < 0 || index >= owner.numel) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("partition plan: element {} is outside parameter {}, which has {} elements",
                            index, parameter, owner.numel));
  }
  const Bucket& bucket = buckets_[static_cast<std::size_t>(owner.bucket)];
  const std::int64_t position = owner.offset + index - bucket.offset;
  const std::int64_t slice = slice_numel(owner.bucket);
  return {.rank = static_cast<int>(position / slice), .offset = bucket.shard_offset + position % slice};
}

}  // namespace deepscale
