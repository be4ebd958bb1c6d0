// What rank 0 notes about each optimizer step: values for the monitors, and where the time went.
//
//   recorder.begin(Phase::kForward); ... recorder.end(Phase::kForward);   any number of times per step
//   recorder.end_of_step({...});                                          once per optimizer step
//
// Monitors get Train/Samples/train_loss, lr, loss_scale (fp16) and, with wall_clock_breakdown,
// elapsed_time_ms_forward, _backward and _step, each over the number of samples so far, as DeepSpeed names
// them. With wall_clock_breakdown every `steps_per_print`th step (0: the tenth) also logs a line of averages.
// Times are those of the calling thread; a device may still be computing.
//
// On a terminal, at log level info, a line of stderr shows the step that has just ended (step_display.h).
//
// A monitor that cannot write is logged once and left out from then on. Threads: one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "runtime/config/config.h"
#include "runtime/monitor/monitor.h"
#include "runtime/monitor/step_display.h"

namespace deepscale {

enum class Phase { kForward, kBackward, kStep };

class StepRecorder {
 public:
  struct Facts {
    std::int64_t step = 0;
    std::int64_t samples = 0;  // of all ranks, up to here
    double learning_rate = 0.0;
    std::optional<double> loss_scale;
    std::optional<double> loss;
  };

  // `is_first_rank`: another rank records nothing.
  StepRecorder(const Config& config, bool is_first_rank, Logger logger);
  ~StepRecorder();
  StepRecorder(const StepRecorder&) = delete;
  StepRecorder& operator=(const StepRecorder&) = delete;

  // Whether Facts::loss is of use, which on a device costs a wait for it.
  bool wants_loss() const { return !monitors_.empty(); }
  void begin(Phase phase);
  void end(Phase phase);
  void end_of_step(const Facts& facts);

 private:
  static constexpr std::size_t kPhases = 3;
  struct Times {
    std::array<double, kPhases> milliseconds = {};
  };

  void add_monitor(bool enabled, std::unique_ptr<Monitor> (*make)(const MonitorConfig&),
                   const MonitorConfig& config);
  void write(const std::vector<MonitorValue>& values, bool flush);
  void log_times(std::int64_t step);

  const bool measures_time_;
  const std::int64_t steps_per_line_;
  const Logger logger_;
  std::vector<std::unique_ptr<Monitor>> monitors_;
  std::optional<StepDisplay> display_;
  std::array<Clock::time_point, kPhases> begun_ = {};
  Times of_step_;
  Times of_line_;
  std::int64_t steps_of_line_ = 0;
  Clock::time_point line_begun_ = Clock::now();
};

}  // namespace deepscale
