// What a person asked for: the result of reading the command line, before anything about hosts or devices is
// known.
//
// A value; every field has the default that --help tells. cli/command_line.h fills it, job_plan.h turns it
// into a plan.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "comm/base/log.h"

namespace deepscale {

struct JobSpec {
  // What to run. Arguments after the program belong to it, untouched.
  std::string program;
  std::vector<std::string> arguments;
  bool run_as_module = false;   // python -m program
  bool without_python = false;  // execute a *.py directly
  bool pass_local_rank = true;  // --local_rank=N for Python programs
  std::string venv_script;      // activation script of the venv whose python runs the program

  // Where to run it.
  std::string hostfile;  // empty: /job/hostfile where it exists, else this machine
  std::string include;   // NAME[:SLOT[,SLOT]][@NAME...]
  std::string exclude;
  std::optional<int> node_count;
  std::optional<int> ranks_per_node;
  bool oversubscribe = false;
  bool force_multi_node = false;
  std::optional<int> node_rank;
  std::vector<std::string>
      options_without_effect;  // given, but of no meaning on one machine: said, not hidden

  // How the ranks meet, and what they see.
  std::string master_address;                                    // empty: loopback
  int master_port = 0;                                           // 0: any free one
  std::vector<std::pair<std::string, std::string>> environment;  // in the order given
  std::vector<std::string> environment_files;                    // read first, so that `environment` wins

  // How the job lives and ends.
  int max_restarts = 0;
  std::chrono::milliseconds grace{5000};
  std::optional<std::chrono::milliseconds> timeout;
  std::optional<std::chrono::milliseconds> heartbeat_timeout;  // how long a rank may make no step
  bool bind_cores_to_rank = false;
  std::vector<int> bind_core_list;  // ascending; empty: all

  // What a person sees.
  std::optional<bool> tag_output;  // unset: when there is more than one rank
  std::vector<int> shown_ranks;    // ascending; empty: all
  std::string log_directory;
  bool save_pid = false;
  bool dry_run = false;
  bool json_events = false;
  bool quiet = false;
  LogLevel log_level = LogLevel::kWarning;
};

}  // namespace deepscale
