#include "comm/reduction.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "comm/base/half.h"
#include "comm/base/half_blocks.h"
#include "comm/base/instruction_set.h"

namespace deepscale {

namespace {

// How one dtype lies in memory and in which type it is accumulated.
template <typename Element, typename Wide>
struct Plain {
  using Stored = Element;
  using Accumulator = Wide;
  DEEPSCALE_INLINE static Accumulator load(Stored value) { return static_cast<Accumulator>(value); }
  DEEPSCALE_INLINE static Stored store(Accumulator value) { return static_cast<Stored>(value); }
};

struct BFloat16 {
  using Stored = std::uint16_t;
  using Accumulator = float;
  DEEPSCALE_INLINE static float load(Stored value) { return bf16_to_float(value); }
  DEEPSCALE_INLINE static Stored store(float value) { return float_to_bf16(value); }
};

struct Float16 {};  // converted in blocks, for which there are instructions

struct Sum {
  DEEPSCALE_INLINE static float combine(float left, float right) { return left + right; }
  DEEPSCALE_INLINE static std::int64_t combine(std::int64_t left, std::int64_t right) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(left) + static_cast<std::uint64_t>(right));
  }
};

// `right != right` is true for NaN only, and no comparison replaces a NaN on the left: NaN wins.
struct Max {
  template <typename Value>
  DEEPSCALE_INLINE static Value combine(Value left, Value right) {
    return right > left || right != right ? right : left;
  }
};

struct Min {
  template <typename Value>
  DEEPSCALE_INLINE static Value combine(Value left, Value right) {
    return right < left || right != right ? right : left;
  }
};

struct Request {
  std::span<const std::byte* const> sources;
  std::byte* output;
  std::int64_t count;
  DType dtype;
  ReduceOp op;
  const HalfBlocks& half_blocks;
};

// One block goes through the accumulators at a time; they stay in the first-level cache.
constexpr std::int64_t kBlock = 1024;

template <typename Format, typename Operation, bool kAverages>
struct Loops {
  using Stored = typename Format::Stored;
  using Accumulator = typename Format::Accumulator;

  DEEPSCALE_INLINE static Accumulator load(const std::byte* data, std::int64_t index) {
    Stored value;
    std::memcpy(&value, data + static_cast<std::size_t>(index) * sizeof(Stored), sizeof(Stored));
    return Format::load(value);
  }
  DEEPSCALE_INLINE static Stored result(Accumulator value, std::size_t source_count) {
    if constexpr (kAverages) value /= static_cast<Accumulator>(source_count);
    return Format::store(value);
  }

  // The common case, without a way through memory for the accumulators. The results are gathered before they
  // are written, since the output may be one of the sources.
  DEEPSCALE_INLINE static void reduce_two(const std::byte* left, const std::byte* right, std::byte* output,
                                          std::int64_t count) {
    std::array<Stored, kBlock> results;
    for (std::int64_t i = 0; i < count; ++i)
      results[i] = result(Operation::combine(load(left, i), load(right, i)), 2);
    std::memcpy(output, results.data(), static_cast<std::size_t>(count) * sizeof(Stored));
  }

  DEEPSCALE_INLINE static void reduce_many(const Request& request, std::size_t offset, std::int64_t count) {
    std::array<Accumulator, kBlock> accumulated;
    std::array<Stored, kBlock> results;
    for (std::int64_t i = 0; i < count; ++i) accumulated[i] = load(request.sources[0] + offset, i);
    for (std::size_t source = 1; source < request.sources.size(); ++source) {
      const std::byte* data = request.sources[source] + offset;
      for (std::int64_t i = 0; i < count; ++i)
        accumulated[i] = Operation::combine(accumulated[i], load(data, i));
    }
    for (std::int64_t i = 0; i < count; ++i) results[i] = result(accumulated[i], request.sources.size());
    std::memcpy(request.output + offset, results.data(), static_cast<std::size_t>(count) * sizeof(Stored));
  }

  DEEPSCALE_INLINE static void reduce_all(const Request& request) {
    for (std::int64_t done = 0; done < request.count; done += kBlock) {
      const std::size_t offset = static_cast<std::size_t>(done) * sizeof(Stored);
      const std::int64_t count = std::min(kBlock, request.count - done);
      if (request.sources.size() == 2) {
        reduce_two(request.sources[0] + offset, request.sources[1] + offset, request.output + offset, count);
      } else {
        reduce_many(request, offset, count);
      }
    }
  }
};

template <typename Operation, bool kAverages>
struct Loops<Float16, Operation, kAverages> {
  using Block = std::array<float, kBlock>;

  DEEPSCALE_INLINE static void reduce_block(const Request& request, std::size_t offset, std::int64_t count) {
    Block accumulated, next;
    request.half_blocks.widen(request.sources[0] + offset, accumulated.data(), count);
    for (std::size_t source = 1; source < request.sources.size(); ++source) {
      request.half_blocks.widen(request.sources[source] + offset, next.data(), count);
      for (std::int64_t i = 0; i < count; ++i) accumulated[i] = Operation::combine(accumulated[i], next[i]);
    }
    if constexpr (kAverages) {
      for (std::int64_t i = 0; i < count; ++i) accumulated[i] /= static_cast<float>(request.sources.size());
    }
    request.half_blocks.narrow(accumulated.data(), request.output + offset, count);
  }

  DEEPSCALE_INLINE static void reduce_all(const Request& request) {
    for (std::int64_t done = 0; done < request.count; done += kBlock) {
      reduce_block(request, static_cast<std::size_t>(done) * sizeof(std::uint16_t),
                   std::min(kBlock, request.count - done));
    }
  }
};

template <typename Format>
DEEPSCALE_INLINE void reduce_format(const Request& request) {
  switch (request.op) {
    case ReduceOp::kSum:
      return Loops<Format, Sum, false>::reduce_all(request);
    case ReduceOp::kAverage:
      return Loops<Format, Sum, true>::reduce_all(request);
    case ReduceOp::kMax:
      return Loops<Format, Max, false>::reduce_all(request);
    case ReduceOp::kMin:
      return Loops<Format, Min, false>::reduce_all(request);
  }
}

DEEPSCALE_INLINE void reduce_any(const Request& request) {
  switch (request.dtype) {
    case DType::kFloat32:
      return reduce_format<Plain<float, float>>(request);
    case DType::kBFloat16:
      return reduce_format<BFloat16>(request);
    case DType::kFloat16:
      return reduce_format<Float16>(request);
    case DType::kInt32:
      return reduce_format<Plain<std::int32_t, std::int64_t>>(request);
    case DType::kInt64:
      return reduce_format<Plain<std::int64_t, std::int64_t>>(request);
    case DType::kUInt8:
      return reduce_format<Plain<std::uint8_t, std::int64_t>>(request);
  }
}

void reduce_portable(const Request& request) {
  reduce_any(request);
}

DEEPSCALE_FOR_AVX2 void reduce_avx2(const Request& request) {
  reduce_any(request);
}
DEEPSCALE_FOR_AVX512 void reduce_avx512(const Request& request) {
  reduce_any(request);
}

}  // namespace

void reduce_with(InstructionSet set, std::span<const std::byte* const> sources, std::byte* output,
                 std::int64_t count, DType dtype, ReduceOp op) {
  const Request request{sources, output, count, dtype, op, half_blocks(set)};
  switch (available(set)) {
    case InstructionSet::kAvx512:
      return reduce_avx512(request);
    case InstructionSet::kAvx2:
      return reduce_avx2(request);
    default:
      return reduce_portable(request);
  }
}

void reduce(std::span<const std::byte* const> sources, std::byte* output, std::int64_t count, DType dtype,
            ReduceOp op) {
  reduce_with(InstructionSet::kBest, sources, output, count, dtype, op);
}

Slice slice_of(std::int64_t count, int rank, int size) {
  const std::int64_t share = count / size;
  const std::int64_t larger = count % size;  // the first ranks take one element more
  return {rank * share + std::min<std::int64_t>(rank, larger), share + (rank < larger ? 1 : 0)};
}

}  // namespace deepscale
