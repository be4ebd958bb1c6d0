// The signals that ask the launcher to end a job. One implementation per platform.
#pragma once

#include <vector>

#include "agents/process/child_process.h"

namespace deepscale {

struct JobSignal {
  int number;          // as the system counts here
  StopSignal forward;  // what the ranks get
  const char* name;
  bool is_preemption;  // so a scheduler takes a machine back; else a person at a terminal wants the end
};

// Those that are not ignored: nohup has its way.
std::vector<JobSignal> stop_signals();

}  // namespace deepscale
