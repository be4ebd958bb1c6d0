// hello_ranks: every rank says where it stands, and all of them add up their ranks.
//
// Runs under deepscale launch, mpirun, srun or torchrun, and with no launcher at all.
#include <fmt/core.h>

#include <cstdint>
#include <cstdio>

#include "comm/base/error.h"
#include "comm/communicator.h"

namespace {

constexpr auto kTimeout = std::chrono::minutes(2);

void run() {
  const auto environment = deepscale::Environment::of_process();
  const auto layout = deepscale::WorldLayout::from_environment(environment);
  const deepscale::Logger logger(
      "hello_ranks", deepscale::parse_log_level(environment.get_or("DEEPSCALE_LOG_LEVEL", "warning")));

  std::shared_ptr<deepscale::Store> store;
  if (layout.world_size > 1)
    store = deepscale::join_job_store(layout, logger, deepscale::Deadline::after(kTimeout));
  const auto communicator = deepscale::make_communicator(
      layout, store,
      {.timeout = kTimeout, .backend = environment.get_or("DEEPSCALE_BACKEND", ""), .logger = logger});

  std::int64_t sum = layout.rank;
  communicator
      ->all_reduce({.data = &sum, .count = 1, .dtype = deepscale::DType::kInt64}, deepscale::ReduceOp::kSum)
      .wait();
  fmt::print("rank {} of {} (rank {} of node {}, started by {}): sum of ranks = {} [{}]\n", layout.rank,
             layout.world_size, layout.local_rank, layout.node_rank,
             deepscale::started_by_name(layout.started_by), sum, communicator->backend());
  std::fflush(stdout);
  communicator->barrier().wait();
}

}  // namespace

int main() try {
  run();
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "hello_ranks: {}\n", error.what());
  return 1;
}
