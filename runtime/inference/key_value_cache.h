// Keys and values of the positions that a decoder has seen, allocated once.
//
// For each layer, sequence and key-value head: [positions, head size], contiguous; fp32 or bf16. One thread
// writes; disjoint heads may be read by several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/base/dtype.h"

namespace deepscale {

struct CacheShape {
  std::int64_t layers = 0;
  std::int64_t sequences = 0;
  std::int64_t heads = 0;
  std::int64_t positions = 0;
  std::int64_t head_size = 0;
  DType dtype = DType::kFloat32;  // or kBFloat16

  std::int64_t bytes() const {  // of keys and values
    return 2 * layers * sequences * heads * positions * head_size * static_cast<std::int64_t>(size_of(dtype));
  }
};

class KeyValueCache {
 public:
  // Pages come with the first write. std::bad_alloc where the address space has no room.
  explicit KeyValueCache(const CacheShape& shape);

  const CacheShape& shape() const { return shape_; }
  struct Slot {
    std::int64_t layer = 0;
    std::int64_t sequence = 0;
    std::int64_t head = 0;
  };
  // `key` and `value` have head_size elements.
  void write(const Slot& slot, std::int64_t position, const float* key, const float* value);
  // scores[i] = query . key of position first + i.
  void scores(const Slot& slot, std::int64_t first, std::int64_t count, const float* query,
              float* scores) const;
  // output = sum of weights[i] * value of position first + i.
  void combine(const Slot& slot, std::int64_t first, std::int64_t count, const float* weights,
               float* output) const;

 private:
  std::int64_t offset(const Slot& slot) const {
    return ((slot.layer * shape_.sequences + slot.sequence) * shape_.heads + slot.head) * shape_.positions *
           shape_.head_size;
  }
  template <typename Element, typename Load>
  void combine_as(const Element* values, std::int64_t count, const float* weights, float* output,
                  Load load) const;

  CacheShape shape_;
  std::unique_ptr<std::byte[]> keys_;
  std::unique_ptr<std::byte[]> values_;
};

}  // namespace deepscale
