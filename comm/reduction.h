// The arithmetic of reductions, the same in every backend that reduces on the CPU.
//
// Sums run in the order of the sources, which backends give by rank, so every rank gets the same bits. bf16
// and fp16 are accumulated in fp32 and rounded once at the end; int32 and uint8 in a wider integer, so an
// average does not overflow before the division; a sum that does not fit wraps around. kMax and kMin yield
// NaN where any source has NaN. The loops are compiled for AVX-512, AVX2 and the processor that the build is
// for, and chosen at run time; all give the same bits, except that of several NaNs it may be another one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/base/instruction_set.h"
#include "comm/communicator.h"

namespace deepscale {

// output[i] = op(sources[0][i], sources[1][i], ...) for `count` elements; kAverage divides by the number of
// sources. Each source is either disjoint from the output or the output itself. Nothing has to be aligned.
void reduce(std::span<const std::byte* const> sources, std::byte* output, std::int64_t count, DType dtype,
            ReduceOp op);

// With loops for one instruction set; for tests, which compare them. reduce() takes kBest.
void reduce_with(InstructionSet set, std::span<const std::byte* const> sources, std::byte* output,
                 std::int64_t count, DType dtype, ReduceOp op);

// The part of `count` elements that rank `rank` of `size` reduces. Sizes differ by one element at most.
struct Slice {
  std::int64_t offset = 0;
  std::int64_t count = 0;
};
Slice slice_of(std::int64_t count, int rank, int size);

}  // namespace deepscale
