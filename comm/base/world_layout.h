// Where this process stands in its job.
//
// An immutable value, read from the environment once. Without any launcher it is rank 0 of 1, and that is
// valid. Recognised, in this order: deepscale and torchrun (RANK, WORLD_SIZE ...), Open MPI
// (OMPI_COMM_WORLD_*), PMI (MPICH, Intel MPI: PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS), Slurm
// (SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID ...; only inside a job step). The contract is in
// docs/launcher.md.
#pragma once

#include <optional>
#include <string>

#include "comm/base/environment.h"

namespace deepscale {

enum class StartedBy { kNobody, kDeepScale, kEnvironment, kOpenMpi, kPmi, kSlurm };

const char* started_by_name(
    StartedBy who);  // "no launcher", "deepscale", "RANK and WORLD_SIZE", "Open MPI", "PMI", "Slurm"

struct WorldLayout {
  int rank = 0;  // 0 .. world_size-1, over all nodes
  int world_size = 1;
  int local_rank = 0;  // 0 .. local_world_size-1, on this node
  int local_world_size = 1;
  int node_rank = 0;  // 0 .. node_count-1
  int node_count = 1;
  int generation = 0;  // restarts of the job so far
  std::string job_id;  // the same on all ranks of a job, unique on a machine; empty when nothing gave one
  std::string master_addr;             // host of the store; empty when unset
  int master_port = 0;                 // port of the store; 0 when unset
  bool launcher_serves_store = false;  // the launcher listens there; else rank 0 has to
  StartedBy started_by = StartedBy::kNobody;

  // Error(kInvalidArgument) when variables contradict each other (rank outside the world, RANK without
  // WORLD_SIZE, no number).
  static WorldLayout from_environment(const Environment& environment);
};

}  // namespace deepscale
