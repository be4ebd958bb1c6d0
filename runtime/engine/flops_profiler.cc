#include "runtime/engine/flops_profiler.h"

#include <ATen/record_function.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <mutex>
#include <vector>

#include "runtime/engine/operator_flops.h"

namespace deepscale {
namespace {

// Follows the phase to the threads that autograd works on.
struct PhaseCounts final : c10::DebugInfoBase {
  std::mutex mutex;
  FlopsProfiler::Counts counts;
};

// An operator that is counted; those that it calls are not.
thread_local bool is_within_counted = false;

struct Within final : at::ObserverContext {
  Within() { is_within_counted = true; }
  ~Within() override { is_within_counted = false; }
};

std::unique_ptr<at::ObserverContext> count_operator(const at::RecordFunction& function) {
  if (is_within_counted || !has_flops(function.name())) return nullptr;
  auto* const phase =
      dynamic_cast<PhaseCounts*>(c10::ThreadLocalDebugInfo::get(c10::DebugInfoKind::PRODUCER_INFO));
  if (phase == nullptr) return nullptr;
  const std::int64_t flops = flops_of_operator(function.name(), function.inputs());
  const std::lock_guard lock(phase->mutex);
  FlopsProfiler::Count& count = phase->counts[function.name()];
  ++count.calls;
  count.flops += flops;
  return std::make_unique<Within>();
}

std::string readable(double value, const char* unit) {
  const char* const prefixes[] = {"", "K", "M", "G", "T", "P"};
  std::size_t prefix = 0;
  for (; value >= 1000.0 && prefix + 1 < std::size(prefixes); ++prefix) value /= 1000.0;
  return fmt::format("{:.2f} {}{}", value, prefixes[prefix], unit);
}

std::int64_t sum_of(const FlopsProfiler::Counts& counts) {
  std::int64_t sum = 0;
  for (const auto& [name, count] : counts) sum += count.flops;
  return sum;
}

std::string line_of_phase(const char* name, std::int64_t flops, double milliseconds) {
  const double rate = milliseconds > 0.0 ? static_cast<double>(flops) / milliseconds * 1e3 : 0.0;
  return fmt::format("{:<10} {:>16} {:>12.2f} ms {:>16}\n", name,
                     readable(static_cast<double>(flops), "FLOP"), milliseconds, readable(rate, "FLOP/s"));
}

std::string table_of(const FlopsProfiler::Counts& counts, std::int64_t all) {
  std::vector<std::pair<std::string, FlopsProfiler::Count>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.flops > b.second.flops; });
  std::string text = fmt::format("{:<60} {:>8} {:>16} {:>8}\n", "operator", "calls", "FLOP", "share");
  for (const auto& [name, count] : sorted) {
    text += fmt::format(
        "{:<60} {:>8} {:>16} {:>6.1f} %\n", name, count.calls, readable(static_cast<double>(count.flops), ""),
        100.0 * static_cast<double>(count.flops) / static_cast<double>(std::max(all, std::int64_t{1})));
  }
  return text;
}

}  // namespace

struct FlopsProfiler::Observation {
  std::shared_ptr<PhaseCounts> counts = std::make_shared<PhaseCounts>();
  c10::DebugInfoGuard guard{c10::DebugInfoKind::PRODUCER_INFO, counts};
  at::CallbackHandle callback = at::addThreadLocalCallback(
      at::RecordFunctionCallback(&count_operator).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  ~Observation() { at::removeCallback(callback); }
};

std::unique_ptr<FlopsProfiler> FlopsProfiler::make(const Config& config, bool is_first_rank,
                                                   std::int64_t parameters, Logger logger) {
  if (!config.flops_profiler.enabled || !is_first_rank) return nullptr;
  return std::unique_ptr<FlopsProfiler>(
      new FlopsProfiler(config.flops_profiler, parameters, std::move(logger)));
}

FlopsProfiler::FlopsProfiler(const FlopsProfilerConfig& config, std::int64_t parameters, Logger logger)
    : config_(config),
      parameters_(parameters),
      logger_(std::move(logger)),
      is_profiling_(config.profile_step == 0) {}

FlopsProfiler::~FlopsProfiler() = default;

void FlopsProfiler::begin(Phase) {
  if (!is_profiling_) return;
  observation_.reset();  // of a phase that ended in an exception
  observation_ = std::make_unique<Observation>();
  begun_ = Clock::now();
}

void FlopsProfiler::end(Phase phase) {
  if (!observation_) return;
  const auto index = static_cast<std::size_t>(phase);
  milliseconds_[index] += std::chrono::duration<double, std::milli>(Clock::now() - begun_).count();
  for (const auto& [name, count] : observation_->counts->counts) {
    counts_[index][name].calls += count.calls;
    counts_[index][name].flops += count.flops;
  }
  observation_.reset();
}

void FlopsProfiler::end_of_step(std::int64_t steps) {
  if (is_profiling_) {
    report_ = make_report(steps);
    deliver();
  }
  is_profiling_ = steps == config_.profile_step;
}

std::string FlopsProfiler::make_report(std::int64_t steps) const {
  const auto& [forward, backward, step] = counts_;
  Counts all = forward;
  for (const auto& [name, count] : backward) {
    all[name].calls += count.calls;
    all[name].flops += count.flops;
  }
  std::string text = fmt::format("step {} of rank 0, {} parameters\n", steps,
                                 readable(static_cast<double>(parameters_), ""));
  text += line_of_phase("forward", sum_of(forward), milliseconds_[0]);
  text += line_of_phase("backward", sum_of(backward), milliseconds_[1]);
  text += line_of_phase("step", sum_of(step), milliseconds_[2]);
  if (config_.detailed) text += table_of(all, sum_of(all));
  return text;
}

void FlopsProfiler::deliver() const {
  if (config_.output_file.empty()) {
    logger_.info("flops profiler: {}", report_);
    return;
  }
  std::ofstream file(config_.output_file);
  file << report_ << std::flush;
  if (!file) {
    logger_.warning("flops_profiler.output_file: cannot write to {}: {}; the report: {}", config_.output_file,
                    std::strerror(errno), report_);
  }
}

}  // namespace deepscale
