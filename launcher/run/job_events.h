// What happens in a job as JSON, one object a line: the output of --json. docs/launcher.md lists the fields.
//
// Pure functions; each result ends with a newline. Bytes that are no UTF-8 are replaced by U+FFFD.
#pragma once

#include <string>
#include <string_view>

#include "launcher/job/job_plan.h"
#include "launcher/job/rank_environment.h"
#include "launcher/run/failure_report.h"

namespace deepscale {

std::string job_started_event(const JobPlan& plan, const Rendezvous& rendezvous);
std::string rank_started_event(const RankEvent& event, int generation);
std::string rank_exited_event(const RankEvent& event, int generation);
std::string rank_joined_event(const RankEvent& event, int generation);
std::string hang_event(const RankResult& to_blame, const Hang& hang, int generation);
std::string output_event(const OutputLine& line);
std::string note_event(std::string_view text);
std::string failure_event(const FailureReport& report);
std::string job_finished_event(int exit_code, std::string_view outcome, Clock::duration duration);

}  // namespace deepscale
