// The command line of cifar10.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "comm/base/dtype.h"

namespace cifar10 {

struct Options {
  std::string data_dir;
  std::string config_path;  // empty: the built-in configuration
  // Those that are given win over the configuration.
  std::optional<deepscale::DType> dtype;
  std::optional<int> stage;
  std::optional<std::int64_t> batch_size;  // of one rank, in one step
  int epochs = 0;
  std::int64_t steps_limit = 0;  // 0: none
  std::int64_t log_interval = 0;
  std::uint64_t seed = 0;
};

// Nothing when help was asked for, and printed. Error(kInvalidArgument) names the option and what it takes.
std::optional<Options> parse_options(int argc, const char* const* argv);

}  // namespace cifar10
