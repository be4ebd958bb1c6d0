// A cgroup (version 2) around the children of this process and all that they start, where one may be made:
// by root, or where a part of the tree was delegated to the user (systemd's Delegate=). Elsewhere there is
// none, which is no error: the supervisors do without.
//
// It counts what the kernel kills for lack of memory in this job and nowhere else, where its parent shares
// out memory; and it is a second net: when the launcher is killed, the supervisors that are left end
// everything in it, also what was below a supervisor that was killed too. Only *_linux.cc files include this.
#pragma once

#include <string>

#include "agents/process/descriptors_linux.h"

namespace deepscale {

class JobCgroup {
 public:
  JobCgroup();   // never fails; also removes what launchers that were killed have left
  ~JobCgroup();  // kills what is in it, and removes it
  JobCgroup(const JobCgroup&) = delete;
  JobCgroup& operator=(const JobCgroup&) = delete;

  int folder() const { return folder_.get(); }       // a descriptor of it; -1: there is none
  const std::string& path() const { return path_; }  // empty: there is none

 private:
  UniqueDescriptor folder_;
  std::string path_;
};

// For the supervisor, too: only async-signal-safe calls. Kills all that is in the cgroup, and removes it when
// that is gone, for which it waits a moment.
void end_cgroup(int folder, const char* path);

}  // namespace deepscale
