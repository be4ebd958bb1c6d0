// The program deepscale-model: what deepscale does with models and checkpoints, without LibTorch.
// `deepscale estimate ...` and `deepscale zero_to_fp32 ...` start it.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "comm/base/error.h"
#include "runtime/tools/consolidate.h"
#include "runtime/tools/estimate.h"

namespace deepscale {
namespace {

constexpr int kUsageExitCode = 2;

struct Tool {
  const char* name;
  std::string (*run)(const std::vector<std::string>&);
  std::string (*help)();
};

constexpr Tool kTools[] = {{"estimate", estimate_text, estimate_help},
                           {"zero_to_fp32", consolidate_text, consolidate_help}};

std::string run(const std::vector<std::string>& words) {
  for (const Tool& tool : kTools) {
    if (words.empty() || words.front() != tool.name) continue;
    const std::vector<std::string> arguments(words.begin() + 1, words.end());
    const bool wants_help = std::any_of(arguments.begin(), arguments.end(), [](const std::string& word) {
      return word == "--help" || word == "-h";
    });
    return wants_help ? tool.help() : tool.run(arguments);
  }
  throw Error(ErrorCode::kInvalidArgument,
              "Usage: deepscale estimate ..., or deepscale zero_to_fp32 ...; each has --help.");
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  try {
    fmt::print("{}", deepscale::run({argv + std::min(argc, 1), argv + argc}));
    return 0;
  } catch (const deepscale::Error& error) {
    fmt::print(stderr, "deepscale: {}\n", error.what());
    return error.code() == deepscale::ErrorCode::kInvalidArgument ? deepscale::kUsageExitCode : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "deepscale: {}\n", error.what());
    return 1;
  }
}
