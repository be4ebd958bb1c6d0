// What exactly is executed for "program": found before anything starts, so that a mistake costs no rank.
//
//   name.py          the user's python runs it: the venv's, conda's, else python3 or python in PATH
//   --module name    python -m name
//   anything else    is executed: a path, or a name that is looked up in PATH, then in the current folder,
//   then
//                    beside deepscale itself
//
// These functions read the file system and nothing else; any thread may call them.
#pragma once

#include <string>
#include <vector>

#include "comm/base/environment.h"
#include "launcher/job/job_spec.h"

namespace deepscale {

struct Program {
  std::string executable;                      // a path
  std::vector<std::string> leading_arguments;  // before the user's own: the script, or -m and the module
  bool is_python = false;
};

// `environment` is what the ranks will see. Error(kNotFound) when there is no such program, script or python;
// Error(kSystem) when the file is there and may not be executed.
Program resolve_program(const JobSpec& spec, const Environment& environment);

// Makes `environment` that of an activated venv, as sourcing `script` (<venv>/bin/activate) would.
void activate_venv(Environment& environment, const std::string& script);

// Lets Python ranks import deepscale_link, and prints their stacks when they hang: the last folder of
// PYTHONPATH becomes that of agents/link/python, which lies in ../share/deepscale/python of this program's.
// Where it is not there, nothing changes.
void add_python_link(Environment& environment);

}  // namespace deepscale
