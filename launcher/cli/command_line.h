// The command line of deepscale: text in, a Command out.
//
//   deepscale [launch] [options] program [arguments]
//   deepscale report [--json]
//   deepscale bench comm [options]
//   deepscale estimate | zero_to_fp32 [arguments of deepscale-model]
//   deepscale --help | --version
//
// Options end at the program: whatever stands behind it belongs to it, untouched. Their names are
// DeepSpeed's; words may be joined by
// '-' or '_'. Pure, except that --env_file is read by whoever runs the job. Every mistake is an
// Error(kInvalidArgument), or kUnsupported for what this version cannot do, whose message is one sentence and
// what to try.
#pragma once

#include <string>
#include <vector>

#include "launcher/bench/comm_bench.h"
#include "launcher/job/job_spec.h"

namespace deepscale {

struct Command {
  enum class Action { kLaunch, kReport, kBench, kModel, kLaunchHelp, kReportHelp, kBenchHelp, kVersion };
  Action action = Action::kLaunch;
  JobSpec job;               // with kLaunch
  bool json_report = false;  // with kReport
  CommBenchSpec bench;       // with kBench
  std::vector<std::string> bench_words;
  std::vector<std::string> model_arguments;  // with kModel: what deepscale-model gets
};

// `arguments` without the program's own name, in UTF-8.
Command parse_command_line(const std::vector<std::string>& arguments);

std::string launch_help();
std::string report_help();

}  // namespace deepscale
