// The process that stands between us and a child, and outlives both just long enough to end the child's tree.
//
// It is forked without exec, from a process that may have threads: so everything that runs in it is limited
// to async-signal-safe calls, and takes what it needs ready-made (ExecPlan). Only *_linux.cc files include
// this.
//
//   we --fork--> supervisor --vfork+exec--> child --> grandchildren; orphans become the supervisor's children
//
// The link is a SOCK_SEQPACKET pair. We send SupervisorCommand; the supervisor sends SupervisorReport: first
// kStarted or kSpawnFailed, then kEnded when the child has ended, and it closes its side (by exiting) when no
// process of the tree is left. When our side closes, for whatever reason, it kills the tree; when we are
// dead, all that is left in the job's cgroup.
#pragma once

#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>

namespace deepscale {

struct ExecPlan {
  const char* path = nullptr;
  char* const* arguments = nullptr;         // null-terminated, begins with the program's name
  char* const* environment = nullptr;       // null-terminated
  const char* working_directory = nullptr;  // null: ours
  const cpu_set_t* cpus = nullptr;          // null: ours
  int cgroup = -1;                          // of the job (job_cgroup_linux.h); -1: none
  const char* cgroup_path = nullptr;
  rlimit descriptors = {};  // how many it may open
  int input = -1;           // what becomes descriptors 0, 1 and 2; none of them below 3
  int output = -1;          //   (input may be 0)
  int error = -1;
};

struct SupervisorCommand {
  enum Kind : std::int32_t { kSignalGroup, kSignalChild, kKillTree };
  Kind kind;
  std::int32_t signal;  // with kSignalGroup (a request to end) and kSignalChild (no such request)
};

struct SupervisorReport {
  enum Kind : std::int32_t { kStarted, kSpawnFailed, kEnded };
  enum Stage : std::int32_t { kSupervise, kFork, kWorkingDirectory, kAffinity, kExec };
  Kind kind;
  Stage stage;                    // with kSpawnFailed
  std::int32_t error;             // with kSpawnFailed: errno
  std::int32_t wait_status;       // with kEnded
  std::int32_t pid;               // with kStarted
  std::int32_t was_asked_to_end;  // with kEnded: a command came before it began to end
  std::int64_t peak_rss_kib;      // with kEnded
};

// Forks a supervisor that starts the plan's program at once. All signals are blocked in it, so that no
// handler of ours runs there. std::system_error when the system refuses to fork.
pid_t fork_supervisor(const ExecPlan& plan, int link);

}  // namespace deepscale
