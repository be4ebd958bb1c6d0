// comm_bench [--backend NAME] [--dtype NAME]: times the collectives between the ranks that it is started as,
// for example
//
//   deepscale launch --num_gpus 2 build/tests/comm_bench
//   mpirun -n 2 build/tests/comm_bench --backend tcp --dtype bf16
//
// Rank 0 prints the median of each operation, on plain memory and on memory of allocate_shared(). GB/s are
// bytes of the full tensor divided by the time, whatever crosses the wire. The first lines are what the
// machine can do: memcpy, by one rank and by all of them at once, which bounds every way of moving bytes.
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
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
constexpr Size kSizes[] = {{"8 B", 8, 5000},
                           {"4 KiB", 4 << 10, 2000},
                           {"64 KiB", 64 << 10, 1000},
                           {"1 MiB", 1 << 20, 300},
                           {"64 MiB", 64 << 20, 15}};

struct Options {
  std::string backend;
  DType dtype = DType::kFloat32;
};

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i + 1 < arguments.size(); i += 2) {
    if (arguments[i] == "--backend") options.backend = arguments[i + 1];
    if (arguments[i] == "--dtype") options.dtype = parse_dtype(arguments[i + 1]);
  }
  return options;
}

double median_seconds(Communicator& communicator, int rounds, const std::function<void()>& operation) {
  std::vector<double> seconds;
  for (int round = -2; round < rounds; ++round) {
    communicator.barrier().wait();
    const auto start = Clock::now();
    operation();
    if (round >= 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
  return seconds[static_cast<std::size_t>(rounds / 2)];
}

class Bench {
 public:
  Bench(Communicator& communicator, DType dtype) : communicator_(communicator), dtype_(dtype) {}

  // `copiers` ranks at once.
  void measure_copy(int copiers) {
    constexpr std::size_t kBytes = 64 << 20;
    std::vector<std::byte> from(kBytes, std::byte{1}), to(kBytes, std::byte{2});
    const double seconds = median_seconds(communicator_, 15, [&] {
      if (communicator_.rank() < copiers) std::memcpy(to.data(), from.data(), kBytes);
    });
    if (communicator_.rank() == 0) {
      fmt::print("memcpy by {} rank(s): {:.2f} GB/s each\n", copiers, kBytes / seconds / 1e9);
    }
  }

  void measure(const Size& size, const char* memory_name, std::byte* memory) {
    const auto ranks = static_cast<std::int64_t>(communicator_.size());
    const auto element = static_cast<std::int64_t>(size_of(dtype_));
    const std::int64_t slice_count = std::max<std::int64_t>(size.bytes / element / ranks, 1);
    const Buffer whole{memory, slice_count * ranks, dtype_};  // every rank gets the same share
    const Buffer slice{memory + whole.bytes(), slice_count, dtype_};
    const auto report = [&](const char* name, const std::function<Work()>& operation) {
      const double seconds = median_seconds(communicator_, size.rounds, [&] { operation().wait(); });
      if (communicator_.rank() != 0) return;
      fmt::print("{:<16}{:>8}  {:<8}{:>12.1f} us{:>10.2f} GB/s\n", name, size.name, memory_name,
                 seconds * 1e6, static_cast<double>(whole.bytes()) / seconds / 1e9);
    };
    // The average keeps the values as they are, so that they do not grow round by round.
    report("all_reduce", [&] { return communicator_.all_reduce(whole, ReduceOp::kAverage); });
    report("reduce_scatter", [&] { return communicator_.reduce_scatter(whole, slice, ReduceOp::kAverage); });
    report("all_gather", [&] { return communicator_.all_gather(slice, whole); });
  }

  // In a row, so that no rank has a start: the time of one.
  void measure_barrier() {
    constexpr int kBarriers = 100;
    const double seconds = median_seconds(communicator_, 200, [&] {
      for (int i = 0; i < kBarriers; ++i) communicator_.barrier().wait();
    });
    if (communicator_.rank() == 0) fmt::print("barrier{:>39.2f} us\n", seconds / kBarriers * 1e6);
  }

 private:
  Communicator& communicator_;
  const DType dtype_;
};

void run(const Options& arguments) {
  const Environment environment = Environment::of_process();
  const WorldLayout layout = WorldLayout::from_environment(environment);
  const Logger logger("comm_bench", LogLevel::kWarning);
  std::shared_ptr<Store> store;
  if (layout.world_size > 1) store = join_job_store(layout, logger, Deadline::after(kTimeout));
  const std::string backend =
      arguments.backend.empty() ? environment.get_or("DEEPSCALE_BACKEND", "") : arguments.backend;
  const auto communicator =
      make_communicator(layout, store, {.timeout = kTimeout, .backend = backend, .logger = logger});
  if (layout.rank == 0) {
    fmt::print("{} between {} ranks, backend {}\n", dtype_name(arguments.dtype), communicator->size(),
               communicator->backend());
  }
  Bench bench(*communicator, arguments.dtype);
  bench.measure_copy(1);
  bench.measure_copy(communicator->size());
  bench.measure_barrier();
  constexpr std::size_t kMost = 2 * (64 << 20) + 4096;
  std::vector<std::byte> plain(kMost);
  const auto shared = communicator->allocate_shared(kMost);
  for (const Size& size : kSizes) {
    bench.measure(size, "plain", plain.data());
    bench.measure(size, "shared", shared.get());
  }
  communicator->barrier().wait();
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) try {
  deepscale::run(deepscale::parse({argv + 1, argv + argc}));
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "comm_bench: {}\n", error.what());
  return 1;
}
