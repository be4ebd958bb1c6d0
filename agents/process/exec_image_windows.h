// What CreateProcessW needs, ready-made. Only *_windows.cc files include this.
#pragma once

#include <cstdint>
#include <string>

#include "agents/process/child_process.h"
#include "comm/base/error.h"

namespace deepscale {

class ExecImage {
 public:
  // Looks the program up. Error(kNotFound) when there is no such program or working directory,
  // Error(kInvalidArgument) for a core number that no affinity mask has.
  explicit ExecImage(const ChildProcess::Options& options);

  const std::wstring& path() const { return path_; }
  const std::wstring& working_directory() const { return working_directory_; }
  const wchar_t* command_line() const { return command_line_.c_str(); }
  const wchar_t* environment_block() const { return environment_.c_str(); }
  std::uintptr_t cpu_mask() const { return cpu_mask_; }  // 0: all
  bool inherits_input() const { return inherits_input_; }

 private:
  std::wstring path_;
  std::wstring working_directory_;
  std::wstring command_line_;
  std::wstring environment_;
  std::uintptr_t cpu_mask_ = 0;
  bool inherits_input_ = false;
};

// A refusal of the system, for people.
Error spawn_error(const ChildProcess::Options& options, unsigned long system_error);

}  // namespace deepscale
