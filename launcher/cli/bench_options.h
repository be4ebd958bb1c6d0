// The command line of `deepscale bench`.
#pragma once

#include <string>
#include <vector>

#include "launcher/bench/comm_bench.h"

namespace deepscale {

// The words behind "bench comm". Error(kInvalidArgument) says which is wrong and what would be right.
CommBenchSpec parse_comm_bench(const std::vector<std::string>& words);

std::string bench_help();

}  // namespace deepscale
