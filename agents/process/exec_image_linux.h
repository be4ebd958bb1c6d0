// What execve needs, ready-made, so that the supervisor has only to point at it. Only *_linux.cc files
// include this.
#pragma once

#include <sched.h>

#include <string>
#include <vector>

#include "agents/process/child_process.h"
#include "agents/process/supervisor_linux.h"
#include "comm/base/error.h"

namespace deepscale {

class ExecImage {
 public:
  // Looks the program up. Error(kNotFound) when no folder of PATH has it, Error(kInvalidArgument) for a core
  // number that no Linux has. `options` must outlive the image.
  explicit ExecImage(const ChildProcess::Options& options);
  ExecImage(const ExecImage&) = delete;
  ExecImage& operator=(const ExecImage&) = delete;

  // Points into this image; the descriptors and their limit are not set.
  ExecPlan plan() const;

 private:
  const ChildProcess::Options& options_;
  std::string path_;
  std::vector<std::string> variables_;
  std::vector<char*> arguments_;
  std::vector<char*> environment_;
  cpu_set_t cpus_;
};

// A kSpawnFailed report, for people.
Error spawn_error(const ChildProcess::Options& options, const SupervisorReport& report);

}  // namespace deepscale
