#include "comm/shm/host_rendezvous.h"

#include <fmt/core.h>

#include <sstream>

#include "comm/base/error.h"

namespace deepscale::shm {

namespace {

constexpr int kLayoutVersion = 2;  // of rank_block.h

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

}  // namespace

std::vector<std::string> agree(const Round& round, const std::function<std::string()>& act) {
  const auto key_of = [&](int rank) { return fmt::format("communicator/{}/rank {}", round.name, rank); };
  const auto where =
      fmt::format("rank {} of {}, rendezvous of the communicator '{}'", round.rank, round.size, round.name);
  round.store.set(key_of(round.rank), format_report(report_of(round, act)));
  std::vector<std::string> texts;
  std::string failure;
  for (int rank = 0; rank < round.size; ++rank) {
    std::string published;
    try {
      published = round.store.get(key_of(rank), round.deadline);
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

}  // namespace deepscale::shm
