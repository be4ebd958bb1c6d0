// The environment contract: what every rank finds in its environment. docs/launcher.md is its text;
// comm/base/world_layout.h reads it.
//
// Pure functions on values.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/base/environment.h"
#include "launcher/job/job_plan.h"

namespace deepscale {

// How the ranks of one generation of a job find each other: known once the store listens.
struct Rendezvous {
  std::string job_id;
  std::string address = "127.0.0.1";
  int port = 0;
  int generation = 0;
};

// What is the same for all ranks: ours, less the variables by which another launcher would tell every rank
// that it is the same one, plus `additions`. Error(kInvalidArgument) when an addition names a variable that
// the launcher itself sets.
Environment job_environment(const Environment& own,
                            const std::vector<std::pair<std::string, std::string>>& additions);

// The variables that the launcher sets for one rank.
Environment rank_variables(const JobPlan& plan, RankPlace place, const Rendezvous& rendezvous);

// Both together: all that the rank sees. A default (OMP_NUM_THREADS ...) gives way to what `job` has.
Environment rank_environment(const Environment& job, const JobPlan& plan, RankPlace place,
                             const Rendezvous& rendezvous);

// NAME=VALUE; `where` begins the message of a mistake.
std::pair<std::string, std::string> parse_variable(std::string_view text, const std::string& where);

// A file of NAME=VALUE lines, values as they stand; # begins a comment line.
std::vector<std::pair<std::string, std::string>> read_environment_file(const std::string& path);

}  // namespace deepscale
