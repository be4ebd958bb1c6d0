// comm_bench: times the collectives between the ranks that it is started as, for example
//
//   deepscale launch --num_gpus 2 build/tests/comm_bench
//   DEEPSCALE_BACKEND=tcp mpirun -n 2 build/tests/comm_bench
//
// Rank 0 prints the median of each operation. GB/s are bytes of the full tensor divided by the time, whatever
// crosses the wire.
#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "comm/base/error.h"
#include "comm/communicator.h"

namespace deepscale {
namespace {

constexpr auto kTimeout = std::chrono::minutes(5);

struct Size {
  const char* name;
  std::int64_t bytes;
  int rounds;
};
constexpr Size kSizes[] = {{"4 KiB", 4 << 10, 2000}, {"1 MiB", 1 << 20, 300}, {"64 MiB", 64 << 20, 15}};

double median_seconds(Communicator& communicator, int rounds, const std::function<Work()>& operation) {
  std::vector<double> seconds;
  for (int round = -2; round < rounds; ++round) {
    communicator.barrier().wait();
    const auto start = Clock::now();
    operation().wait();
    if (round >= 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
  return seconds[static_cast<std::size_t>(rounds / 2)];
}

void measure(Communicator& communicator, const Size& size) {
  const std::int64_t slice_count = size.bytes / 4 / communicator.size();
  const std::int64_t count = slice_count * communicator.size();  // every rank gets the same share
  std::vector<float> whole_values(static_cast<std::size_t>(count), 1.0f);
  std::vector<float> slice_values(static_cast<std::size_t>(slice_count), 1.0f);
  const Buffer whole{.data = whole_values.data(), .count = count};
  const Buffer slice{.data = slice_values.data(), .count = slice_count};
  const auto report = [&](const char* name, const std::function<Work()>& operation) {
    const double seconds = median_seconds(communicator, size.rounds, operation);
    if (communicator.rank() != 0) return;
    fmt::print("{:<16}{:>8}{:>14.1f} us{:>10.2f} GB/s\n", name, size.name, seconds * 1e6,
               static_cast<double>(whole.bytes()) / seconds / 1e9);
  };
  // The average keeps the values as they are, so that they do not grow round by round.
  report("all_reduce", [&] { return communicator.all_reduce(whole, ReduceOp::kAverage); });
  report("reduce_scatter", [&] { return communicator.reduce_scatter(whole, slice, ReduceOp::kAverage); });
  report("all_gather", [&] { return communicator.all_gather(slice, whole); });
}

void run() {
  const Environment environment = Environment::of_process();
  const WorldLayout layout = WorldLayout::from_environment(environment);
  const Logger logger("comm_bench", LogLevel::kWarning);
  std::shared_ptr<Store> store;
  if (layout.world_size > 1) store = join_job_store(layout, logger, Deadline::after(kTimeout));
  const auto communicator = make_communicator(
      layout, store,
      {.timeout = kTimeout, .backend = environment.get_or("DEEPSCALE_BACKEND", ""), .logger = logger});
  if (layout.rank == 0) {
    fmt::print("fp32 between {} ranks, backend {}\n", communicator->size(), communicator->backend());
  }
  for (const Size& size : kSizes) measure(*communicator, size);
  communicator->barrier().wait();
}

}  // namespace
}  // namespace deepscale

int main() try {
  deepscale::run();
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "comm_bench: {}\n", error.what());
  return 1;
}
