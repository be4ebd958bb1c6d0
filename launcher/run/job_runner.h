// Runs a plan on this machine, from the first rank's start to the exit code.
//
//   Idle --> Running --> Stopping --> Draining --> Finished
//              ^  |         |            ^
//              |  |         `------------|   all ranks are gone
//              |  `----------------------'
//              `-- Restarting <-'  (a rank failed, and the budget of restarts is not used up)
//
//   Running     the ranks live; the agent of the node watches them
//   Stopping    a signal or --timeout asked them to end; a second signal kills them
//   Restarting  the next generation is about to start, with a store of its own
//   Draining    our own output is being written; a signal or --timeout ends even that
//
// Threads: one thread runs it all; only the writing of our own output happens in the background. Blocks in
// run().
#pragma once

#include <string>
#include <vector>

#include "comm/base/environment.h"
#include "comm/base/log.h"
#include "launcher/job/job_plan.h"
#include "launcher/job/job_spec.h"

namespace deepscale {

struct RunInputs {
  JobSpec spec;
  JobPlan plan;                    // of one node, this one
  Environment environment;         // job_environment()
  std::string host_name;           // for the failure report
  std::vector<std::string> notes;  // said before the start
  Logger logger;
};

// The exit code: 0 when every rank ended by itself with 0; that of the first cause; 128 + signal when we were
// asked to stop; 124 after
// --timeout. Error(kSystem) when the port or a log file cannot be had; nothing was started then.
int run_job(RunInputs inputs);

}  // namespace deepscale
