// The loops for each instruction set give the same bits, whatever the count and the alignment.
#include "comm/reduction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace deepscale {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16,
                             DType::kInt32,   DType::kInt64,    DType::kUInt8};
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax, ReduceOp::kMin};

using Bytes = std::vector<std::byte>;

template <typename Word>
void make_nans_equal(Bytes& bytes, std::size_t begin, Word magnitude_bits, Word infinity) {
  for (; begin + sizeof(Word) <= bytes.size(); begin += sizeof(Word)) {
    Word word;
    std::memcpy(&word, bytes.data() + begin, sizeof word);
    if ((word & magnitude_bits) > infinity) std::memcpy(bytes.data() + begin, &magnitude_bits, sizeof word);
  }
}

// Which NaN the sum of two is, and its sign, is the compiler's choice.
void make_nans_equal(Bytes& bytes, std::size_t begin, DType dtype) {
  if (dtype == DType::kFloat32) make_nans_equal<std::uint32_t>(bytes, begin, 0x7fffffff, 0x7f800000);
  if (dtype == DType::kBFloat16) make_nans_equal<std::uint16_t>(bytes, begin, 0x7fff, 0x7f80);
  if (dtype == DType::kFloat16) make_nans_equal<std::uint16_t>(bytes, begin, 0x7fff, 0x7c00);
}

Bytes reduce_copies(InstructionSet set, const std::vector<Bytes>& inputs, std::size_t misalignment,
                    DType dtype, ReduceOp op) {
  std::vector<const std::byte*> sources;
  for (const Bytes& input : inputs) sources.push_back(input.data() + misalignment);
  const std::size_t bytes = inputs[0].size() - misalignment;
  Bytes output(inputs[0].size());
  const auto count = static_cast<std::int64_t>(bytes / size_of(dtype));
  reduce_with(set, sources, output.data() + misalignment, count, dtype, op);
  make_nans_equal(output, misalignment, dtype);
  return output;
}

// Random bytes: of the 16-bit formats that is every value there is, infinities, subnormals and NaNs among
// them.
TEST(Reduction, EveryInstructionSetGivesTheSameBits) {
  std::mt19937 random(1);
  for (const std::size_t source_count : {1u, 2u, 3u, 7u}) {
    for (const std::size_t bytes : {0u, 1u, 64u, 1000u, 70'001u}) {
      std::vector<Bytes> inputs(source_count, Bytes(bytes));
      for (Bytes& input : inputs) {
        for (std::byte& byte : input) byte = static_cast<std::byte>(random());
      }
      for (const DType dtype : kDTypes) {
        for (const ReduceOp op : kOps) {
          const std::size_t misalignment = std::min<std::size_t>(bytes, random() % 3);
          const Bytes expected = reduce_copies(InstructionSet::kPortable, inputs, misalignment, dtype, op);
          for (const auto set : {InstructionSet::kAvx2, InstructionSet::kAvx512, InstructionSet::kBest}) {
            EXPECT_EQ(reduce_copies(set, inputs, misalignment, dtype, op), expected)
                << dtype_name(dtype) << " op " << static_cast<int>(op) << " set " << static_cast<int>(set)
                << " of " << source_count << " x " << bytes << " bytes";
          }
        }
      }
    }
  }
}

TEST(Reduction, TheOutputMayBeAnySource) {
  for (const std::size_t output : {0u, 1u, 2u}) {
    std::vector<std::vector<float>> inputs(3, std::vector<float>(3000));
    for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].assign(3000, static_cast<float>(i + 1));
    std::vector<const std::byte*> sources;
    for (auto& input : inputs) sources.push_back(reinterpret_cast<const std::byte*>(input.data()));
    reduce(sources, reinterpret_cast<std::byte*>(inputs[output].data()), 3000, DType::kFloat32,
           ReduceOp::kSum);
    EXPECT_EQ(inputs[output], std::vector<float>(3000, 6.0f));
  }
}

}  // namespace
}  // namespace deepscale
