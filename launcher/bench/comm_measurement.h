// One operation of one size between the ranks of a communicator: checked, then timed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "comm/communicator.h"
#include "launcher/bench/bench_memory.h"
#include "launcher/bench/comm_bench.h"

namespace deepscale {

struct CommMeasurement {
  double microseconds = 0;         // the median of the rounds, each after a barrier
  double algorithm_bandwidth = 0;  // GB/s: bytes of the whole tensor by the time
  double bus_bandwidth = 0;        // GB/s: what each rank's link carries at least; nccl-tests' factors
  std::int64_t wrong = 0;          // elements, over all ranks
};

// The bytes of the whole tensor that come nearest to `bytes` and that all ranks can share evenly.
std::int64_t even_bytes(std::int64_t bytes, int rank_count, DType dtype);

class CommBench {
 public:
  CommBench(Communicator& communicator, const CommBenchSpec& spec)
      : communicator_(communicator), spec_(spec) {}

  // All ranks call these together. `bytes` come from even_bytes(); the result is the same on rank 0 only.
  CommMeasurement measure(BenchOperation operation, std::int64_t bytes, const BenchMemory& memory);
  // GB/s of copying one half to the other, at most 64 MiB, that each of the first `copiers` ranks reaches at
  // once: what moving bytes can cost least.
  double copy_bandwidth(int copiers, const BenchMemory& memory);

 private:
  Work start(BenchOperation operation, const Buffer& first, const Buffer& second);
  std::int64_t count_wrong(BenchOperation operation, std::int64_t count, const BenchMemory& memory);
  template <typename Act>
  double median_seconds(int rounds, Act act);

  Communicator& communicator_;
  const CommBenchSpec& spec_;
};

}  // namespace deepscale
