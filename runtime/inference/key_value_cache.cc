#include "runtime/inference/key_value_cache.h"

#include <algorithm>
#include <cstring>

#include "comm/base/half.h"
#include "runtime/inference/linear_kernel.h"

namespace deepscale {

KeyValueCache::KeyValueCache(const CacheShape& shape) : shape_(shape) {
  const auto bytes = static_cast<std::size_t>(shape.bytes() / 2);
  keys_.reset(new std::byte[bytes]);  // not zeroed: untouched pages cost nothing
  values_.reset(new std::byte[bytes]);
}

void KeyValueCache::write(const Slot& slot, std::int64_t position, const float* key, const float* value) {
  const std::int64_t at = offset(slot) + position * shape_.head_size;
  if (shape_.dtype == DType::kFloat32) {
    const auto bytes = static_cast<std::size_t>(shape_.head_size) * sizeof(float);
    std::memcpy(reinterpret_cast<float*>(keys_.get()) + at, key, bytes);
    std::memcpy(reinterpret_cast<float*>(values_.get()) + at, value, bytes);
    return;
  }
  auto* keys = reinterpret_cast<std::uint16_t*>(keys_.get()) + at;
  auto* values = reinterpret_cast<std::uint16_t*>(values_.get()) + at;
  for (std::int64_t i = 0; i < shape_.head_size; ++i) {
    keys[i] = float_to_bf16(key[i]);
    values[i] = float_to_bf16(value[i]);
  }
}

void KeyValueCache::scores(const Slot& slot, std::int64_t first, std::int64_t count, const float* query,
                           float* scores) const {
  const std::int64_t at = offset(slot) + first * shape_.head_size;
  const bool is_wide = shape_.dtype == DType::kFloat32;
  const WeightMatrix keys{is_wide ? WeightFormat::kFloat32 : WeightFormat::kBFloat16, count, shape_.head_size,
                          keys_.get() + at * static_cast<std::int64_t>(size_of(shape_.dtype))};
  multiply({query, 1, keys, scores, count, 0, count});
}

template <typename Element, typename Load>
void KeyValueCache::combine_as(const Element* values, std::int64_t count, const float* weights, float* output,
                               Load load) const {
  std::fill(output, output + shape_.head_size, 0.0f);
  for (std::int64_t position = 0; position < count; ++position) {
    const Element* row = values + position * shape_.head_size;
    const float weight = weights[position];
    for (std::int64_t i = 0; i < shape_.head_size; ++i) output[i] += weight * load(row[i]);
  }
}

void KeyValueCache::combine(const Slot& slot, std::int64_t first, std::int64_t count, const float* weights,
                            float* output) const {
  const std::int64_t at = offset(slot) + first * shape_.head_size;
  if (shape_.dtype == DType::kFloat32) {
    combine_as(reinterpret_cast<const float*>(values_.get()) + at, count, weights, output,
               [](float value) { return value; });
  } else {
    combine_as(reinterpret_cast<const std::uint16_t*>(values_.get()) + at, count, weights, output,
               [](std::uint16_t value) { return bf16_to_float(value); });
  }
}

}  // namespace deepscale
