#include "launcher/run/failure_report.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "launcher/job/plan_text.h"

namespace deepscale {
namespace {

constexpr int kHangExitCode = 124;  // as of timeout(1), and of --timeout

std::string exact_time(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(std::chrono::system_clock::to_time_t(time)));
}

std::string ranks_line(const char* what, const std::vector<int>& ranks) {
  if (ranks.empty()) return "";
  return fmt::format("  {:<14} {} {}\n", what, ranks.size() == 1 ? "rank" : "ranks", ranges_text(ranks));
}

// Another rank ended first because of its report: its signal says nothing.
bool was_stopped_after_its_report(const RankResult& cause) {
  return cause.reported && cause.status.stopped_by_us;
}

std::string headline_of(const RankResult& cause, const std::optional<Hang>& hang) {
  if (hang) return "hangs: it " + hang->text();
  return was_stopped_after_its_report(cause) ? "reported an error, and was stopped before it had ended"
                                             : cause.status.text();
}

int exit_code_of(const RankResult& cause, bool hangs) {
  if (hangs) return kHangExitCode;
  const int code = was_stopped_after_its_report(cause) ? 1 : cause.status.shell_code();
  return code == 0 ? 1 : code;
}

}  // namespace

FailureReport make_failure_report(const NodeResult& result, const FailureContext& context) {
  const RankResult& cause = result.ranks[*result.first_cause];
  FailureReport report;
  const FailureEvidence evidence{cause, result.hang, context.memory, result.ranks.size()};
  report.failure_class = classify(evidence);
  report.headline = headline_of(cause, result.hang);
  report.explanation = explain(report.failure_class, evidence);
  report.host = context.host;
  report.cause = cause;
  for (std::string& line : report.cause.last_error_lines) line = std::string(without_carriage_return(line));
  report.world_size = static_cast<int>(result.ranks.size());
  report.generation = context.generation;
  for (const RankResult& rank : result.ranks) {
    if (rank.rank == cause.rank) continue;
    if (rank.status.how == ExitStatus::How::kNotStarted) {
      report.never_started.push_back(rank.rank);
    } else if (rank.status.stopped_by_us) {
      report.stopped.push_back(rank.rank);
    } else if (rank.status.is_success()) {
      report.succeeded.push_back(rank.rank);
    } else {
      report.also_failed.push_back(rank.rank);
    }
  }
  report.exit_code = exit_code_of(cause, result.hang.has_value());
  return report;
}

std::string failure_text(const FailureReport& report) {
  const RankResult& cause = report.cause;
  std::string text = fmt::format("deepscale: the job failed: rank {} of {}: {}\n", cause.rank,
                                 report.world_size, report.headline);
  text +=
      fmt::format("  {:<14} {}. {}\n", "class", failure_class_name(report.failure_class), report.explanation);
  text += fmt::format("  {:<14} {}, local rank {}{}\n", "where", report.host, cause.local_rank,
                      cause.pid != 0 ? fmt::format(", pid {}", cause.pid) : "");
  if (cause.pid != 0) {
    text += fmt::format("  {:<14} {}, after {}\n", "when", exact_time(cause.ended_at),
                        duration_text(cause.status.duration));
  }
  if (cause.steps) text += fmt::format("  {:<14} {}\n", "steps done", *cause.steps);
  if (report.generation > 0) text += fmt::format("  {:<14} {}\n", "restarts", report.generation);
  text += ranks_line("failed as well", report.also_failed);
  text += ranks_line("stopped for it", report.stopped);
  text += ranks_line("had finished", report.succeeded);
  text += ranks_line("not started", report.never_started);
  if (!cause.last_error_lines.empty()) {
    text += fmt::format("  last lines of rank {}'s stderr:\n", cause.rank);
    for (const std::string& line : cause.last_error_lines) text += "    | " + line + "\n";
  }
  return text;
}

std::string_view without_carriage_return(std::string_view line) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

std::string duration_text(Clock::duration duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  if (seconds < 10) return fmt::format("{:.2f} s", seconds);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 7200) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

}  // namespace deepscale
