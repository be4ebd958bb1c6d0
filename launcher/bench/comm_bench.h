// `deepscale bench comm`: how fast the ranks of a job exchange data, and whether what arrives is right.
//
// Started by a person it starts the ranks and is the launcher of `deepscale bench comm` itself; started as a
// rank, by deepscale launch, mpirun, torchrun or Slurm, it joins the others and measures with them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/base/dtype.h"

namespace deepscale {

enum class BenchOperation {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kAllToAll,
  kSendReceive,  // to the next rank and from the previous one at once
  kBarrier,
};
const char* bench_operation_name(BenchOperation operation);  // "all_reduce" ...

struct CommBenchSpec {
  int rank_count = 2;   // to start; those that somebody else started count themselves
  std::string backend;  // empty: DEEPSCALE_BACKEND, else as the communicator chooses
  std::vector<BenchOperation> operations = {BenchOperation::kAllReduce, BenchOperation::kReduceScatter,
                                            BenchOperation::kAllGather};
  DType dtype = DType::kFloat32;
  std::int64_t min_bytes = 8;  // of the whole tensor
  std::int64_t max_bytes = 64 << 20;
  int factor = 2;                 // from one size to the next
  std::optional<int> iterations;  // of each measurement; else by size
  bool json = false;              // a JSON object per line instead of the table
};

// Blocks until done and returns the exit code: 1 when a result was wrong. `words` are the arguments that
// `spec` was read from, for the ranks that it starts. Throws as launch() and the communicator do.
int bench_comm(const CommBenchSpec& spec, const std::vector<std::string>& words);

}  // namespace deepscale
