// How parameters lie in a flat arena, and which rank owns which part of it.
//
// Parameters of one dtype are laid one after another, in the order given, into buckets of about
// `bucket_numel` elements; a parameter never spans two buckets. A bucket is padded to a multiple of
// world_size * alignment and divided evenly among the ranks; the buckets one after another are the arena.
// Rank r's shard is slice r of every bucket; its slices one after another are its shard arena, of
// shard_numel() elements, where optimizer state lives. So an element of a parameter and a (rank, offset in
// that rank's shard arena) correspond one to one; padding is in no parameter. Any number of elements, also 0,
// and any world size >= 1.
//
// A pure value: the same arguments give the same plan on every rank.
// Follows "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (Rajbhandari et al., 2020),
// section 5.
#pragma once

#include <cstdint>
#include <vector>

namespace deepscale {

// For a model of so many elements: a 64th of them, or 2^20 where that is more. So the first buckets travel
// while autograd still works, and those that wait are a small part of the model.
std::int64_t default_bucket_numel(std::int64_t model_numel);
// What stage 3 gathers at once, at most: an eighth, or 2^20.
std::int64_t default_unit_numel(std::int64_t model_numel);

struct PartitionOptions {
  int world_size = 1;
  std::int64_t bucket_numel = 500'000'000;  // a parameter larger than this gets a bucket of its own
  std::int64_t alignment = 16;              // elements; keeps every shard on a cache line for 4-byte types
  std::vector<int> groups;  // of each parameter; different groups share no bucket. Empty: one group
};

class PartitionPlan {
 public:
  struct Parameter {
    int bucket;
    std::int64_t offset;  // in the arena
    std::int64_t numel;
  };
  struct Bucket {
    std::int64_t offset;        // in the arena
    std::int64_t numel;         // padding included
    std::int64_t padding;       // at its end
    std::int64_t shard_offset;  // of every rank's slice, in that rank's shard arena
    int first_parameter;
    int parameter_count;
  };
  struct Location {
    int rank;
    std::int64_t offset;  // in that rank's shard arena
  };

  PartitionPlan() = default;
  // Error(kInvalidArgument) for a world size, bucket size or alignment below 1, a negative numel, or groups
  // for another number of parameters.
  PartitionPlan(const std::vector<std::int64_t>& parameter_numels, const PartitionOptions& options);

  int world_size() const { return world_size_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  std::int64_t arena_numel() const { return arena_numel_; }
  std::int64_t shard_numel() const { return arena_numel_ / world_size_; }
  std::int64_t slice_numel(int bucket) const {
    return buckets_[static_cast<std::size_t>(bucket)].numel / world_size_;
  }

  // Where rank `rank`'s slice of `bucket` begins in the arena.
  std::int64_t slice_offset(int bucket, int rank) const;
  // Who owns element `index` of `parameter`, and where. Error(kInvalidArgument) outside the parameter.
  Location locate(int parameter, std::int64_t index) const;

 private:
  int world_size_ = 1;
  std::int64_t arena_numel_ = 0;
  std::vector<Parameter> parameters_;
  std::vector<Bucket> buckets_;
};

}  // namespace deepscale
