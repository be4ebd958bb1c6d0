#include "launcher/run/failure_report.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "launcher/job/plan_text.h"

namespace deepscale {
namespace {

constexpr std::int64_t kKillSignal = 9;
// SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: the program did something wrong itself.
constexpr std::array<std::int64_t, 8> kFaultSignals = {3, 4, 5, 6, 7, 8, 11, 31};

bool any_line_has(const RankResult& rank, std::initializer_list<const char*> texts) {
  return std::any_of(
      rank.last_error_lines.begin(), rank.last_error_lines.end(), [&](const std::string& line) {
        return std::any_of(texts.begin(), texts.end(),
                           [&](const char* text) { return line.find(text) != std::string::npos; });
      });
}

bool says_out_of_memory(const RankResult& rank) {
  return any_line_has(rank, {"std::bad_alloc", "MemoryError", "CUDA out of memory", "OutOfMemoryError",
                             "Cannot allocate memory", "can't allocate memory"});
}

FailureClass classify(const RankResult& rank, const FailureContext& context) {
  switch (rank.status.how) {
    case ExitStatus::How::kNotStarted:
    case ExitStatus::How::kSpawnFailed:
      return FailureClass::kNotStarted;
    case ExitStatus::How::kLost:
      return FailureClass::kLost;
    case ExitStatus::How::kCrashed:
      return FailureClass::kCrash;
    case ExitStatus::How::kExited:
      break;
    case ExitStatus::How::kSignalled:
      break;
  }
  const bool was_signalled = rank.status.how == ExitStatus::How::kSignalled;
  const bool was_killed = was_signalled && rank.status.code == kKillSignal;
  if (was_killed && context.out_of_memory_kills.value_or(0) > 0) return FailureClass::kOutOfMemory;
  if (!was_killed && says_out_of_memory(rank)) return FailureClass::kOutOfMemory;
  if (!was_signalled) {
    return any_line_has(rank, {"Traceback (most recent call last)"}) ? FailureClass::kPythonException
                                                                     : FailureClass::kExitCode;
  }
  if (std::find(kFaultSignals.begin(), kFaultSignals.end(), rank.status.code) != kFaultSignals.end())
    return FailureClass::kCrash;
  return was_killed ? FailureClass::kKilledFromOutside : FailureClass::kSignal;
}

std::string explain(FailureClass failure_class, const RankResult& rank, const FailureContext& context) {
  const std::string peak =
      rank.status.peak_rss_bytes > 0
          ? fmt::format(" It held up to {} of memory.", bytes_text(rank.status.peak_rss_bytes))
          : "";
  switch (failure_class) {
    case FailureClass::kExitCode:
      return "The program ended itself with an error.";
    case FailureClass::kPythonException:
      return "A Python exception ended the program.";
    case FailureClass::kSignal:
      return "A signal that the program did not handle ended it; we did not send it.";
    case FailureClass::kCrash:
      return "The program crashed.";
    case FailureClass::kNotStarted:
      return "The system could not start the program.";
    case FailureClass::kLost:
      return "The end of the process could not be observed.";
    case FailureClass::kOutOfMemory:
      return context.out_of_memory_kills.value_or(0) > 0 && rank.status.how == ExitStatus::How::kSignalled
                 ? "The kernel killed it because memory ran out." + peak +
                       " Use fewer ranks, a smaller batch, or raise the limit."
                 : "The program ran out of memory." + peak;
    case FailureClass::kKilledFromOutside:
      return "Something outside the job killed it; we did not, and the kernel " +
             std::string(context.out_of_memory_kills ? "counted no kill for lack of memory."
                                                     : "does not tell whether memory ran out.") +
             peak;
  }
  return "";
}

std::string exact_time(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(std::chrono::system_clock::to_time_t(time)));
}

std::string ranks_line(const char* what, const std::vector<int>& ranks) {
  if (ranks.empty()) return "";
  return fmt::format("  {:<14} {} {}\n", what, ranks.size() == 1 ? "rank" : "ranks", ranges_text(ranks));
}

}  // namespace

const char* failure_class_name(FailureClass failure_class) {
  switch (failure_class) {
    case FailureClass::kExitCode:
      return "exit code";
    case FailureClass::kPythonException:
      return "python exception";
    case FailureClass::kSignal:
      return "signal";
    case FailureClass::kCrash:
      return "crash";
    case FailureClass::kOutOfMemory:
      return "out of memory";
    case FailureClass::kKilledFromOutside:
      return "killed from outside";
    case FailureClass::kNotStarted:
      return "not started";
    case FailureClass::kLost:
      return "lost";
  }
  return "unknown";
}

FailureReport make_failure_report(const NodeResult& result, const FailureContext& context) {
  const RankResult& cause = result.ranks[*result.first_cause];
  FailureReport report;
  report.failure_class = classify(cause, context);
  report.explanation = explain(report.failure_class, cause, context);
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
  const int code = cause.status.shell_code();
  report.exit_code = code == 0 ? 1 : code;
  return report;
}

std::string failure_text(const FailureReport& report) {
  const RankResult& cause = report.cause;
  std::string text = fmt::format("deepscale: the job failed: rank {} of {}: {}\n", cause.rank,
                                 report.world_size, cause.status.text());
  text +=
      fmt::format("  {:<14} {}. {}\n", "class", failure_class_name(report.failure_class), report.explanation);
  text += fmt::format("  {:<14} {}, local rank {}{}\n", "where", report.host, cause.local_rank,
                      cause.pid != 0 ? fmt::format(", pid {}", cause.pid) : "");
  if (cause.pid != 0) {
    text += fmt::format("  {:<14} {}, after {}\n", "when", exact_time(cause.ended_at),
                        duration_text(cause.status.duration));
  }
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

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1'000'000) return fmt::format("{:.0f} kB", static_cast<double>(bytes) / 1e3);
  if (bytes < 1'000'000'000) return fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace deepscale
