// Why a job failed: one block that names the first cause, and the ranks that ended because of it.
//
// Pure: made from what the agent of the node reports and what is known about memory. As text for people, and
// as JSON (job_events.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agents/node/node_agent.h"
#include "launcher/run/failure_class.h"

namespace deepscale {

struct FailureReport {
  FailureClass failure_class = FailureClass::kExitCode;
  std::string headline;     // how the rank ended, or that it hangs
  std::string explanation;  // a sentence or two for people
  std::string host;
  RankResult cause;
  int world_size = 0;
  int generation = 0;
  std::vector<int> also_failed;  // ended badly by themselves, after the cause
  std::vector<int> stopped;      // because of it
  std::vector<int> succeeded;    // before it
  std::vector<int> never_started;
  int exit_code = 1;
};

// What is known besides the result.
struct FailureContext {
  std::string host;
  int generation = 0;
  MemoryEvidence memory;  // about the rank that is the first cause
};

// `result` must have a first cause.
FailureReport make_failure_report(const NodeResult& result, const FailureContext& context);

std::string failure_text(const FailureReport& report);

// Lines of Windows programs end with "\r\n", and the '\r' is no part of the text.
std::string_view without_carriage_return(std::string_view line);

std::string duration_text(Clock::duration duration);  // "0.25 s", "12.3 s", "3 min 5 s"

}  // namespace deepscale
