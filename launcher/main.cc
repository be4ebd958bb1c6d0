// The program deepscale.
#include <fmt/core.h>

#include <cstdio>
#include <exception>

#include "comm/base/error.h"
#include "launcher/bench/comm_bench.h"
#include "launcher/cli/arguments.h"
#include "launcher/cli/bench_options.h"
#include "launcher/cli/command_line.h"
#include "launcher/report/build_facts.h"
#include "launcher/report/environment_report.h"
#include "launcher/run/launch.h"
#include "launcher/run/replace_process.h"
#include "launcher/run/standard_stream.h"

namespace deepscale {
namespace {

constexpr int kUsageExitCode = 2;

int run(const std::vector<std::string>& arguments) {
  const Command command = parse_command_line(arguments);
  switch (command.action) {
    case Command::Action::kLaunch:
      return launch(command.job);
    case Command::Action::kReport:
      return print_environment_report(command.json_report);
    case Command::Action::kBench:
      return bench_comm(command.bench, command.bench_words);
    case Command::Action::kBenchHelp:
      fmt::print("{}", bench_help());
      return 0;
    case Command::Action::kModel:
      return run_in_place("deepscale-model", command.model_arguments);
    case Command::Action::kLaunchHelp:
      fmt::print("{}", launch_help());
      return 0;
    case Command::Action::kReportHelp:
      fmt::print("{}", report_help());
      return 0;
    case Command::Action::kVersion:
      fmt::print("deepscale {}\n", build_facts::kVersion);
      return 0;
  }
  return kUsageExitCode;
}

bool is_wrong_request(ErrorCode code) {
  return code == ErrorCode::kInvalidArgument || code == ErrorCode::kUnsupported;
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  deepscale::reserve_standard_streams();
  try {
    return deepscale::run(deepscale::command_arguments(argc, argv));
  } catch (const deepscale::Error& error) {
    fmt::print(stderr, "deepscale: {}\n", error.what());
    return deepscale::is_wrong_request(error.code()) ? deepscale::kUsageExitCode : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "deepscale: {}\n", error.what());
    return 1;
  }
}
