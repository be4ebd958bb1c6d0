// The environment report: what this build and this machine have, and what is missing with what to do about
// it. Its text has the layout of DeepSpeed's ds_report: operators and backends with [YES] or [NO] for "in
// this build" and [OKAY] or [NO] for "this machine can run it", then versions, paths and devices.
//
// Collecting reads files, asks NVML where there is one, and runs python once to ask it for its version (at
// most 5 s); it loads no LibTorch.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace deepscale {

struct ReportEntry {
  std::string name;
  std::string value;                  // what was found, or "not found"
  std::optional<bool> is_installed;   // with both set the entry is an operator or backend: [YES] or [NO] ...
  std::optional<bool> is_compatible;  // ... and [OKAY] or [NO]
  std::string remedy;                 // what to do when it is missing; empty: nothing
};

struct ReportSection {
  std::string title;  // the key in JSON; "ops" gets the heading "op name"
  std::vector<ReportEntry> entries;
};

using EnvironmentReport = std::vector<ReportSection>;

EnvironmentReport collect_environment_report();
std::string report_text(const EnvironmentReport& report);
std::string report_json(const EnvironmentReport& report);

// Collects and prints it; the exit code, 0.
int print_environment_report(bool as_json);

}  // namespace deepscale
