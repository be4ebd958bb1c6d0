// A rank that computes with LibTorch for Windows. That has the ABI of MSVC, so MinGW-w64 reaches it only
// through torch's stable ABI: headers over C functions. Every rank multiplies two matrices of its own, all of
// them add the products up, and each compares the sum with what it has calculated by itself. Small integers,
// so that floats are exact.
#include <fmt/core.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "comm/base/error.h"
#include "comm/communicator.h"

namespace {

namespace stable = torch::stable;
using Matrix = std::vector<float>;  // row by row

constexpr std::int64_t kRows = 64;
constexpr std::int64_t kInner = 96;
constexpr std::int64_t kColumns = 32;
constexpr auto kTimeout = std::chrono::minutes(2);

Matrix numbers(std::int64_t count, int seed) {
  Matrix matrix(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<float>((i * 7 + seed) % 5) - 2;
  return matrix;
}

Matrix left(int rank) {
  return numbers(kRows * kInner, rank);
}
Matrix right(int rank) {
  return numbers(kInner * kColumns, 3 * rank + 1);
}

void add_own_product(int rank, Matrix& sum) {
  const Matrix a = left(rank);
  const Matrix b = right(rank);
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t column = 0; column < kColumns; ++column) {
      for (std::int64_t inner = 0; inner < kInner; ++inner)
        sum[row * kColumns + column] += a[row * kInner + inner] * b[inner * kColumns + column];
    }
  }
}

stable::Tensor view(Matrix& matrix, std::int64_t rows, std::int64_t columns) {
  return stable::from_blob(matrix.data(), {rows, columns}, {columns, 1},
                           stable::Device(torch::headeronly::DeviceType::CPU, 0),
                           torch::headeronly::ScalarType::Float);
}

std::shared_ptr<deepscale::Communicator> join_job(const deepscale::WorldLayout& layout) {
  const deepscale::Logger logger("torch_rank", deepscale::LogLevel::kWarning);
  std::shared_ptr<deepscale::Store> store;
  if (layout.world_size > 1)
    store = deepscale::join_job_store(layout, logger, deepscale::Deadline::after(kTimeout));
  return deepscale::make_communicator(layout, store, {.timeout = kTimeout, .logger = logger});
}

int run() {
  const auto layout = deepscale::WorldLayout::from_environment(deepscale::Environment::of_process());
  const auto communicator = join_job(layout);

  Matrix a = left(layout.rank);
  Matrix b = right(layout.rank);
  const stable::Tensor product = stable::matmul(view(a, kRows, kInner), view(b, kInner, kColumns));
  communicator
      ->all_reduce({.data = product.mutable_data_ptr(),
                    .count = kRows * kColumns,
                    .dtype = deepscale::DType::kFloat32},
                   deepscale::ReduceOp::kSum)
      .wait();

  Matrix expected(kRows * kColumns);
  for (int rank = 0; rank < layout.world_size; ++rank) add_own_product(rank, expected);
  const auto* sum = static_cast<const float*>(product.const_data_ptr());
  const bool is_right = std::equal(expected.begin(), expected.end(), sum);
  fmt::print("rank {} of {}: LibTorch's product, summed over the ranks, is {} [{}]\n", layout.rank,
             layout.world_size, is_right ? "right" : "wrong", communicator->backend());
  std::fflush(stdout);
  communicator->barrier().wait();
  return is_right ? 0 : 1;
}

}  // namespace

int main() try { return run(); } catch (const std::exception& error) {
  fmt::print(stderr, "torch_rank: {}\n", error.what());
  return 1;
}
