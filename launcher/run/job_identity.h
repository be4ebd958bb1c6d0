// How a running job is known on this machine.
#pragma once

#include <cstdint>
#include <string>

namespace deepscale {

std::int64_t own_process_id();

// The same for all ranks of a job, and no other job on this machine has it.
std::string new_job_id();

// <temporary folder>/<pid>.deepscale with our pid in it, as long as the object lives. Error(kSystem) when it
// cannot be written.
class PidFile {
 public:
  explicit PidFile(bool is_wanted);
  ~PidFile();
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;

 private:
  std::string path_;
};

}  // namespace deepscale
