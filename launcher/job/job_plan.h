// What will run where: a pure function of the request, the hosts, and the facts about this machine.
//
// A plan is a value without a port or a pid in it, so it can be printed (--dry-run) and compared. It stays
// small for any number of ranks: what differs between ranks is computed from their place when it is needed.
#pragma once

#include <string>
#include <vector>

#include "launcher/job/job_spec.h"
#include "launcher/job/machine.h"
#include "launcher/job/placement.h"
#include "launcher/job/program.h"

namespace deepscale {

struct NodePlan {
  NodePlacement placement;
  std::vector<std::string> devices;  // what CUDA_VISIBLE_DEVICES will list; empty: the ranks run on the CPU
  bool is_this_machine = false;
};

struct RankPlace {
  int node = 0;
  int local_rank = 0;
};

struct JobPlan {
  std::vector<NodePlan> nodes;  // at least one, each with at least one rank
  int world_size = 0;
  int cores_per_node = 1;         // of this machine; the others are taken to be like it
  std::vector<Core> bound_cores;  // of this machine, to share among its ranks; empty: no binding
  std::vector<int> near_nodes;    // by local rank here: the NUMA node of its GPU; empty: any core will do
  int max_restarts = 0;
  std::string loopback_interface;  // set for jobs on one node, where the platform has a name for it
  Program program;
  std::vector<std::string> arguments;  // the user's own
  bool pass_local_rank = true;

  int rank_at(RankPlace place) const {
    return nodes[static_cast<std::size_t>(place.node)].placement.first_rank + place.local_rank;
  }
  int local_size(RankPlace place) const {
    return nodes[static_cast<std::size_t>(place.node)].placement.rank_count();
  }
};

struct PlanInputs {
  JobSpec spec;
  std::vector<Host> hosts;  // of the hostfile; empty: this machine alone
  Machine machine;
  Environment environment;  // job_environment()
  Program program;
};

// Error(kInvalidArgument) for what cannot be placed: each message names the numbers and says what to change.
JobPlan make_job_plan(const PlanInputs& inputs);

// Error(kUnsupported) when the plan needs another machine than this one.
void require_this_machine_only(const JobPlan& plan);

// The cores that one rank is bound to: its share of bound_cores, or of those near its GPU, in one piece.
// Empty: no binding.
std::vector<Core> rank_cores(const JobPlan& plan, RankPlace place);

// Their logical processors, ascending.
std::vector<int> rank_processors(const JobPlan& plan, RankPlace place);

// The arguments of one rank's program, without the program itself.
std::vector<std::string> rank_arguments(const JobPlan& plan, RankPlace place);

}  // namespace deepscale
