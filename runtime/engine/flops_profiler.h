// Counts the floating-point operations of one optimizer step, and times it (flops_profiler in a config).
//
//   profiler.begin(Phase::kForward); ... profiler.end(Phase::kForward);   as StepRecorder's, any number of
//                                                                         times
//   profiler.end_of_step(steps taken so far)                              once per optimizer step
//
// It looks at the step after `profile_step` steps: a callback of ATen sees every operator of its phases, in
// backward on whatever thread runs it; the other steps cost nothing. The report is a table by operator, since
// modules of LibTorch tell nobody when they run. What is computed again for activation checkpointing counts
// with backward, where it runs.
//
// Counted are the operators of operator_flops.h, each once, not what they call. Threads: one calls it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "runtime/config/config.h"
#include "runtime/monitor/step_recorder.h"

namespace deepscale {

class FlopsProfiler {
 public:
  struct Count {
    std::int64_t calls = 0;
    std::int64_t flops = 0;
  };
  using Counts = std::map<std::string, Count>;  // by operator

  // Null where the config asks for none, and on other ranks than the first. `parameters`: how many the model
  // has.
  static std::unique_ptr<FlopsProfiler> make(const Config& config, bool is_first_rank,
                                             std::int64_t parameters, Logger logger);
  ~FlopsProfiler();

  void begin(Phase phase);
  void end(Phase phase);
  // Writes the report when the step was the one: to the log, or to the config's output_file. A file that
  // cannot be written is logged.
  void end_of_step(std::int64_t steps);
  const Counts& counts(Phase phase) const { return counts_[static_cast<std::size_t>(phase)]; }
  // Empty before the step.
  const std::string& report() const { return report_; }

 private:
  struct Observation;

  FlopsProfiler(const FlopsProfilerConfig& config, std::int64_t parameters, Logger logger);
  std::string make_report(std::int64_t steps) const;
  void deliver() const;

  const FlopsProfilerConfig config_;
  const std::int64_t parameters_;
  const Logger logger_;
  bool is_profiling_;
  std::array<double, 3> milliseconds_ = {};
  Clock::time_point begun_;
  std::array<Counts, 3> counts_;
  std::unique_ptr<Observation> observation_;  // of the phase that runs
  std::string report_;
};

}  // namespace deepscale
