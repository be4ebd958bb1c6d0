#include "launcher/run/failure_class.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <initializer_list>

namespace deepscale {
namespace {

// The numbers of Linux, on every platform (see ExitStatus).
constexpr std::int64_t kAbort = 6;
constexpr std::int64_t kKill = 9;
constexpr std::array<std::int64_t, 2> kMemoryFaults = {7, 11};  // SIGBUS, SIGSEGV
constexpr std::array<std::int64_t, 6> kOtherFaults = {3, 4, 5,
                                                      6, 8, 31};  // SIGQUIT, ILL, TRAP, ABRT, FPE, SYS
constexpr std::array<std::int64_t, 3> kRequests = {10, 15, 24};   // SIGUSR1, SIGTERM, SIGXCPU
// NTSTATUS
constexpr std::int64_t kAccessViolation = 0xC0000005;
constexpr std::array<std::int64_t, 2> kWindowsRequests = {0x40010004, 0xC000013A};  // terminated, Ctrl-C

constexpr std::size_t kMostOfMessage = 300;

template <std::size_t N>
bool is_among(const std::array<std::int64_t, N>& codes, std::int64_t code) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

bool any_line_has(const RankResult& rank, std::initializer_list<const char*> texts) {
  return std::any_of(
      rank.last_error_lines.begin(), rank.last_error_lines.end(), [&](const std::string& line) {
        return std::any_of(texts.begin(), texts.end(),
                           [&](const char* text) { return line.find(text) != std::string::npos; });
      });
}

std::optional<FailureClass> class_of_last_words(const RankResult& rank) {
  if (any_line_has(rank, {"std::bad_alloc", "MemoryError", "CUDA out of memory", "OutOfMemoryError",
                          "Cannot allocate memory", "can't allocate memory"}))
    return FailureClass::kOutOfMemory;
  if (any_line_has(rank, {"collective operation timeout", "Timed out waiting", "DistStoreError: Timed out"}))
    return FailureClass::kCollectiveTimeout;
  if (any_line_has(rank, {"CUDA error", "CUDA driver error", "cudaError", "CUBLAS_STATUS_", "CUDNN_STATUS_",
                          "NCCL error", "NCCL Error", "device-side assert"}))
    return FailureClass::kCuda;
  if (any_line_has(rank, {"Traceback (most recent call last)",
                          "terminate called after throwing an instance of", "uncaught exception"}))
    return FailureClass::kException;
  return std::nullopt;
}

FailureClass class_of_report(RankFailure kind) {
  switch (kind) {
    case RankFailure::kException:
      break;
    case RankFailure::kCuda:
      return FailureClass::kCuda;
    case RankFailure::kCollectiveTimeout:
      return FailureClass::kCollectiveTimeout;
    case RankFailure::kPeerLost:
      return FailureClass::kPeerLost;
    case RankFailure::kOutOfMemory:
      return FailureClass::kOutOfMemory;
  }
  return FailureClass::kException;
}

// A kill may be of the kernel, for lack of memory, or of anybody. The log knows; the counter of our own
// cgroup counts the job; that of the whole machine tells something only of a job that held a good part of its
// memory.
bool was_killed_for_memory(const FailureEvidence& evidence) {
  const MemoryEvidence& memory = evidence.memory;
  if (memory.log_names_it) return *memory.log_names_it;
  if (memory.kills.value_or(0) <= 0) return false;
  const std::uint64_t held = evidence.rank.status.peak_rss_bytes;
  if (!memory.counts_whole_machine || held == 0 || !memory.total_bytes) return true;
  return held * evidence.rank_count >= *memory.total_bytes / 4;
}

FailureClass classify_signal(const FailureEvidence& evidence, std::optional<FailureClass> told) {
  const std::int64_t code = evidence.rank.status.code;
  if (code == kKill)
    return was_killed_for_memory(evidence) ? FailureClass::kOutOfMemory : FailureClass::kKilledFromOutside;
  if (told == FailureClass::kOutOfMemory) return *told;
  if (is_among(kMemoryFaults, code)) return FailureClass::kSegfault;
  if (code == kAbort && told) return *told;
  if (is_among(kOtherFaults, code)) return FailureClass::kCrash;
  return is_among(kRequests, code) ? FailureClass::kPreempted : FailureClass::kSignal;
}

// What the rank reported, as a text to end a sentence with.
std::string reported_text(const RankResult& rank) {
  if (!rank.reported || rank.reported->message.empty()) return "";
  std::string message = rank.reported->message.substr(0, rank.reported->message.find('\n'));
  if (message.size() > kMostOfMessage) message = message.substr(0, kMostOfMessage) + " ...";
  return " It reported: " + message;
}

std::string peak_text(const RankResult& rank) {
  if (rank.status.peak_rss_bytes == 0) return "";
  return fmt::format(" It held up to {} of memory.", bytes_text(rank.status.peak_rss_bytes));
}

std::string explain_memory(const FailureEvidence& evidence) {
  const bool by_the_kernel =
      evidence.rank.status.how == ExitStatus::How::kSignalled && evidence.rank.status.code == kKill;
  if (!by_the_kernel) return "The program ran out of memory." + peak_text(evidence.rank);
  return "The kernel killed it because memory ran out." + peak_text(evidence.rank) +
         " Use fewer ranks, a smaller batch, or raise the limit.";
}

std::string explain_kill(const FailureEvidence& evidence) {
  const MemoryEvidence& memory = evidence.memory;
  std::string text = "Something outside the job killed it; we did not, and the kernel ";
  if (!memory.kills) {
    text += "does not tell whether memory ran out.";
  } else if (*memory.kills <= 0) {
    text += "counted no kill for lack of memory.";
  } else {
    text += memory.log_names_it
                ? "log tells of another process that was killed for lack of memory."
                : "killed for lack of memory elsewhere on the machine, while this job held little.";
  }
  return text + peak_text(evidence.rank);
}

}  // namespace

const char* failure_class_name(FailureClass failure_class) {
  constexpr std::array kNames = {"exit code",   "exception",     "segfault",
                                 "crash",       "cuda",          "collective timeout",
                                 "peer lost",   "out of memory", "killed from outside",
                                 "preempted",   "signal",        "hang",
                                 "not started", "lost"};
  return kNames.at(static_cast<std::size_t>(failure_class));
}

FailureClass classify(const FailureEvidence& evidence) {
  if (evidence.hang) return FailureClass::kHang;
  const RankResult& rank = evidence.rank;
  const auto told = rank.reported ? class_of_report(rank.reported->kind) : class_of_last_words(rank);
  if (rank.status.stopped_by_us && told) return *told;  // it reported before
  switch (rank.status.how) {
    case ExitStatus::How::kNotStarted:
    case ExitStatus::How::kSpawnFailed:
      return FailureClass::kNotStarted;
    case ExitStatus::How::kLost:
      return FailureClass::kLost;
    case ExitStatus::How::kCrashed:
      if (rank.status.code == kAccessViolation) return FailureClass::kSegfault;
      return is_among(kWindowsRequests, rank.status.code) ? FailureClass::kPreempted
                                                          : told.value_or(FailureClass::kCrash);
    case ExitStatus::How::kSignalled:
      return classify_signal(evidence, told);
    case ExitStatus::How::kExited:
      break;
  }
  return told.value_or(FailureClass::kExitCode);
}

std::string explain(FailureClass failure_class, const FailureEvidence& evidence) {
  const std::string reported = reported_text(evidence.rank);
  switch (failure_class) {
    case FailureClass::kExitCode:
      return "The program ended itself with an error." + reported;
    case FailureClass::kException:
      return "An exception that nobody handled ended the program." + reported;
    case FailureClass::kSegfault:
      return "The program used memory that it may not." + reported;
    case FailureClass::kCrash:
      return "The program crashed." + reported;
    case FailureClass::kCuda:
      return "A GPU, its driver or a library for it failed." + reported;
    case FailureClass::kCollectiveTimeout:
      return "It waited in vain for other ranks in a collective operation; look for the one that did not "
             "come." +
             reported;
    case FailureClass::kPeerLost:
      return "Another rank was gone, and this is the first of which an end with an error is known." +
             reported;
    case FailureClass::kOutOfMemory:
      return explain_memory(evidence) + reported;
    case FailureClass::kKilledFromOutside:
      return explain_kill(evidence);
    case FailureClass::kPreempted:
      return "Something outside the job asked it to end, as a scheduler does that takes the machine back; we "
             "did "
             "not.";
    case FailureClass::kSignal:
      return "A signal that the program did not handle ended it; we did not send it.";
    case FailureClass::kHang:
      return "Its number of steps did not change for the time of --heartbeat_timeout; the stacks of the "
             "ranks are in "
             "their stderr.";
    case FailureClass::kNotStarted:
      return "The system could not start the program.";
    case FailureClass::kLost:
      return "The end of the process could not be observed.";
  }
  return "";
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1'000'000) return fmt::format("{:.0f} kB", static_cast<double>(bytes) / 1e3);
  if (bytes < 1'000'000'000) return fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace deepscale
