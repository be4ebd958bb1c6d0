// Runs the real deepscale and keeps what it printed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/agents/child_run.h"

namespace deepscale::testing {

// Starts `deepscale` with these arguments, in our environment with `variables` added. "{rank}" stands for the
// path of rank_program.
std::unique_ptr<ChildRun> start_launcher(
    std::vector<std::string> arguments,
    const std::vector<std::pair<std::string, std::string>>& variables = {});

struct LauncherResult {
  int exit_code = -1;  // -1: it did not end in time
  std::string out;
  std::string error;
};

// Runs it to its end.
LauncherResult run_launcher(std::vector<std::string> arguments,
                            const std::vector<std::pair<std::string, std::string>>& variables = {});

std::vector<std::string> lines_of(const std::string& text);

}  // namespace deepscale::testing
