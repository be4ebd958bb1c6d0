#include "runtime/monitor/step_recorder.h"

#include <fmt/format.h>

#include <chrono>

#include "comm/base/error.h"
#include "comm/base/terminal.h"

namespace deepscale {
namespace {

constexpr std::int64_t kDefaultStepsPerLine = 10;

std::size_t index_of(Phase phase) {
  return static_cast<std::size_t>(phase);
}

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

StepRecorder::StepRecorder(const Config& config, bool is_first_rank, Logger logger)
    : measures_time_(config.wall_clock_breakdown && is_first_rank),
      steps_per_line_(config.steps_per_print > 0 ? config.steps_per_print : kDefaultStepsPerLine),
      logger_(std::move(logger)) {
  if (!is_first_rank) return;
  if (logger_.enabled(LogLevel::kInfo) && stderr_is_terminal()) display_.emplace(logger_.status_line());
  add_monitor(config.csv_monitor.enabled, make_csv_monitor, config.csv_monitor);
  add_monitor(config.tensorboard.enabled, make_tensorboard_monitor, config.tensorboard);
}

StepRecorder::~StepRecorder() {
  write({}, /*flush=*/true);
}

void StepRecorder::add_monitor(bool enabled, std::unique_ptr<Monitor> (*make)(const MonitorConfig&),
                               const MonitorConfig& config) {
  if (enabled) monitors_.push_back(make(config));
}

void StepRecorder::begin(Phase phase) {
  if (measures_time_) begun_[index_of(phase)] = Clock::now();
}

void StepRecorder::end(Phase phase) {
  if (measures_time_) of_step_.milliseconds[index_of(phase)] += milliseconds_since(begun_[index_of(phase)]);
}

void StepRecorder::end_of_step(const Facts& facts) {
  std::vector<MonitorValue> values;
  const auto note = [&](const char* name, double value) {
    values.push_back({std::string("Train/Samples/") + name, value, facts.samples});
  };
  if (facts.loss) note("train_loss", *facts.loss);
  note("lr", facts.learning_rate);
  if (facts.loss_scale) note("loss_scale", *facts.loss_scale);
  if (measures_time_) {
    note("elapsed_time_ms_forward", of_step_.milliseconds[index_of(Phase::kForward)]);
    note("elapsed_time_ms_backward", of_step_.milliseconds[index_of(Phase::kBackward)]);
    note("elapsed_time_ms_step", of_step_.milliseconds[index_of(Phase::kStep)]);
    for (std::size_t i = 0; i < kPhases; ++i) of_line_.milliseconds[i] += of_step_.milliseconds[i];
    of_step_ = {};
    ++steps_of_line_;
  }
  if (display_) display_->show(facts.step, facts.loss ? fmt::format("loss {:.4g}", *facts.loss) : "");
  const bool ends_line = facts.step % steps_per_line_ == 0;
  write(values, ends_line);
  if (measures_time_ && ends_line) log_times(facts.step);
}

void StepRecorder::write(const std::vector<MonitorValue>& values, bool flush) {
  for (auto monitor = monitors_.begin(); monitor != monitors_.end();) {
    try {
      (*monitor)->write(values);
      if (flush) (*monitor)->flush();
      ++monitor;
    } catch (const std::exception& error) {
      logger_.warning("{}; going on without it", error.what());
      monitor = monitors_.erase(monitor);
    }
  }
}

void StepRecorder::log_times(std::int64_t step) {
  const auto steps = static_cast<double>(steps_of_line_);
  const double whole = milliseconds_since(line_begun_) / steps;
  const auto average = [&](Phase phase) { return of_line_.milliseconds[index_of(phase)] / steps; };
  const double known = average(Phase::kForward) + average(Phase::kBackward) + average(Phase::kStep);
  logger_.info("step {}: {:.2f} ms a step: forward {:.2f}, backward {:.2f}, step {:.2f}, elsewhere {:.2f}",
               step, whole, average(Phase::kForward), average(Phase::kBackward), average(Phase::kStep),
               whole - known);
  of_line_ = {};
  steps_of_line_ = 0;
  line_begun_ = Clock::now();
}

}  // namespace deepscale
