// A rank of engine_cuda_test: cuda_rank STAGE DTYPE STEPS. Rank 0 prints the loss of every step in a line of
// its own.
#include <fmt/core.h>

#include <cstdlib>
#include <exception>

#include "comm/base/dtype.h"
#include "tests/cuda/patchwork_training.h"

int main(int argc, char** argv) try {
  using namespace deepscale;
  if (argc != 4) return 2;
  InitializeOptions options = join_job();
  const bool talks = options.layout.rank == 0;
  const Config config = deepscale::testing::patchwork_config(std::atoi(argv[1]), parse_dtype(argv[2]));
  const auto losses = deepscale::testing::train_patchwork(deepscale::testing::make_patchwork(), config,
                                                          std::move(options), std::atoi(argv[3]));
  for (const double loss : losses) {
    if (talks) fmt::print("patchwork_loss {:.8f}\n", loss);
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "cuda_rank: {}\n", error.what());
  return 1;
}
