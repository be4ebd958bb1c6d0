#include "comm/shm/host_rendezvous.h"

#include <fmt/core.h>

#include <optional>
#include <sstream>

#include "comm/base/error.h"

namespace deepscale::shm {

namespace {

constexpr int kLayoutVersion = 3;  // of rank_block.h

// "version size ok|failed text", as one rank publishes it.
struct Report {
  int version = kLayoutVersion;
  int size = 0;
  bool failed = false;
  std::string text;
};

std::string format_report(const Report& report) {
  return fmt::format("{} {} {} {}", report.version, report.size, report.failed ? "failed" : "ok",
                     report.text);
}

Report parse_report(const std::string& published) {
  std::istringstream words(published);
  Report report;
  std::string verdict;
  words >> report.version >> report.size >> verdict;
  report.failed = verdict != "ok";
  words.ignore(1);
  std::getline(words, report.text, '\0');
  return report;
}

Report report_of(const Round& round, const std::function<std::string()>& act) {
  try {
    return {.size = round.size, .text = act()};
  } catch (const Error& error) {
    return {.size = round.size, .failed = true, .text = error.what()};
  }
}

std::string key_of(const Round& round, const std::string& whose) {
  return fmt::format("communicator/{}/{}", round.name, whose);
}

std::string rank_key(const Round& round, int rank) {
  return key_of(round, fmt::format("rank {}", rank));
}

// What all ranks published, checked.
std::vector<std::string> collect(const Round& round) {
  const auto where =
      fmt::format("rank {} of {}, rendezvous of the communicator '{}'", round.rank, round.size, round.name);
  std::vector<std::string> texts;
  std::string failure;
  for (int rank = 0; rank < round.size; ++rank) {
    std::string published;
    try {
      published = round.store.get(rank_key(round, rank), round.deadline);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: rank {} has not come: {}", where, rank, error.what()));
    }
    const Report report = parse_report(published);
    if (report.version != kLayoutVersion) {
      throw Error(ErrorCode::kProtocol,
                  fmt::format("{}: rank {} runs another build; run the same everywhere", where, rank));
    }
    if (report.size != round.size) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: a peer says it is rank {} of {}", where, rank, report.size));
    }
    if (report.failed && failure.empty()) failure = fmt::format("rank {}: {}", rank, report.text);
    texts.push_back(report.text);
  }
  if (!failure.empty()) throw Error(ErrorCode::kUnsupported, fmt::format("{}: {}", where, failure));
  return texts;
}

// If every rank asked for what every other one published, 256 of them would ask 65,536 times. So rank 0 alone
// does, and passes it on as one text with a line for each rank; an empty one says that something is wrong,
// and everybody looks what it is.
std::vector<std::string> collect_for_all(const Round& round) {
  std::vector<std::string> texts;
  std::optional<Error> wrong;
  try {
    texts = collect(round);
  } catch (const Error& error) {
    wrong = error;
  }
  std::string summary;
  for (const std::string& text : texts) summary += text + '\n';
  try {
    round.store.set(key_of(round, "all"), summary);
  } catch (const Error& error) {
    if (!wrong) wrong = error;
  }
  if (wrong) throw Error(*wrong);
  return texts;
}

std::vector<std::string> receive_from_rank_zero(const Round& round) {
  constexpr auto kLeastTime = std::chrono::seconds(1);  // to look who has not come, after the deadline
  std::string summary;
  try {
    summary = round.store.get(key_of(round, "all"), round.deadline);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kTimeout) throw;
  }
  std::vector<std::string> texts;
  std::istringstream lines(summary);
  for (std::string line; std::getline(lines, line);) texts.push_back(line);
  if (texts.size() == static_cast<std::size_t>(round.size)) return texts;
  Round last_look = round;
  if (round.deadline.remaining() < kLeastTime) last_look.deadline = Deadline::after(kLeastTime);
  return collect(last_look);
}

}  // namespace

std::vector<std::string> agree(const Round& round, const std::function<std::string()>& act) {
  round.store.set(rank_key(round, round.rank), format_report(report_of(round, act)));
  return round.rank == 0 ? collect_for_all(round) : receive_from_rank_zero(round);
}

}  // namespace deepscale::shm
