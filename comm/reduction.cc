#include "comm/reduction.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "comm/base/half.h"

namespace deepscale {

namespace {

// How one dtype lies in memory and in which type it is accumulated.
template <typename Element, typename Wide>
struct Plain {
  using Stored = Element;
  using Accumulator = Wide;
  static Accumulator load(Stored value) { return static_cast<Accumulator>(value); }
  static Stored store(Accumulator value) { return static_cast<Stored>(value); }
};

struct BFloat16 {
  using Stored = std::uint16_t;
  using Accumulator = float;
  static float load(Stored value) { return bf16_to_float(value); }
  static Stored store(float value) { return float_to_bf16(value); }
};

struct Float16 {
  using Stored = std::uint16_t;
  using Accumulator = float;
  static float load(Stored value) { return fp16_to_float(value); }
  static Stored store(float value) { return float_to_fp16(value); }
};

struct Sum {
  static float combine(float left, float right) { return left + right; }
  static std::int64_t combine(std::int64_t left, std::int64_t right) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(left) + static_cast<std::uint64_t>(right));
  }
};

// `right != right` is true for NaN only, and no comparison replaces a NaN on the left: NaN wins.
struct Max {
  template <typename Value>
  static Value combine(Value left, Value right) {
    return right > left || right != right ? right : left;
  }
};

struct Min {
  template <typename Value>
  static Value combine(Value left, Value right) {
    return right < left || right != right ? right : left;
  }
};

// One block goes through the accumulators at a time; they stay in the L1 cache.
constexpr std::int64_t kBlock = 1024;

template <typename Format, typename Operation>
void reduce_block(const std::vector<const std::byte*>& sources, std::size_t offset, std::byte* output,
                  std::int64_t count, bool average) {
  using Stored = typename Format::Stored;
  using Accumulator = typename Format::Accumulator;
  std::array<Stored, kBlock> stored;
  std::array<Accumulator, kBlock> accumulated;
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(Stored);
  std::memcpy(stored.data(), sources[0] + offset, bytes);
  for (std::int64_t i = 0; i < count; ++i) accumulated[i] = Format::load(stored[i]);
  for (std::size_t source = 1; source < sources.size(); ++source) {
    std::memcpy(stored.data(), sources[source] + offset, bytes);
    for (std::int64_t i = 0; i < count; ++i)
      accumulated[i] = Operation::combine(accumulated[i], Format::load(stored[i]));
  }
  if (average) {
    const auto divisor = static_cast<Accumulator>(sources.size());
    for (std::int64_t i = 0; i < count; ++i) accumulated[i] /= divisor;
  }
  for (std::int64_t i = 0; i < count; ++i) stored[i] = Format::store(accumulated[i]);
  std::memcpy(output + offset, stored.data(), bytes);
}

template <typename Format, typename Operation>
void reduce_all(const std::vector<const std::byte*>& sources, std::byte* output, std::int64_t count,
                bool average) {
  for (std::int64_t done = 0; done < count; done += kBlock) {
    const std::size_t offset = static_cast<std::size_t>(done) * sizeof(typename Format::Stored);
    reduce_block<Format, Operation>(sources, offset, output, std::min(kBlock, count - done), average);
  }
}

template <typename Format>
void reduce_format(const std::vector<const std::byte*>& sources, std::byte* output, std::int64_t count,
                   ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return reduce_all<Format, Sum>(sources, output, count, false);
    case ReduceOp::kAverage:
      return reduce_all<Format, Sum>(sources, output, count, true);
    case ReduceOp::kMax:
      return reduce_all<Format, Max>(sources, output, count, false);
    case ReduceOp::kMin:
      return reduce_all<Format, Min>(sources, output, count, false);
  }
}

}  // namespace

void reduce(const std::vector<const std::byte*>& sources, std::byte* output, std::int64_t count, DType dtype,
            ReduceOp op) {
  switch (dtype) {
    case DType::kFloat32:
      return reduce_format<Plain<float, float>>(sources, output, count, op);
    case DType::kBFloat16:
      return reduce_format<BFloat16>(sources, output, count, op);
    case DType::kFloat16:
      return reduce_format<Float16>(sources, output, count, op);
    case DType::kInt32:
      return reduce_format<Plain<std::int32_t, std::int64_t>>(sources, output, count, op);
    case DType::kInt64:
      return reduce_format<Plain<std::int64_t, std::int64_t>>(sources, output, count, op);
    case DType::kUInt8:
      return reduce_format<Plain<std::uint8_t, std::int64_t>>(sources, output, count, op);
  }
}

Slice slice_of(std::int64_t count, int rank, int size) {
  const std::int64_t share = count / size;
  const std::int64_t larger = count % size;  // the first ranks take one element more
  return {rank * share + std::min<std::int64_t>(rank, larger), share + (rank < larger ? 1 : 0)};
}

}  // namespace deepscale
