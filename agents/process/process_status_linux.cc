#include "agents/process/process_status_linux.h"

#include <fmt/core.h>

#include <fstream>
#include <string>

namespace deepscale {

std::optional<ProcessStatus> read_process_status(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  if (!file) return std::nullopt;
  ProcessStatus status;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("State:\t", 0) == 0 && line.size() > 7) status.state = line[7];
    if (line.rfind("SigCgt:\t", 0) == 0) status.caught_signals = std::stoull(line.substr(8), nullptr, 16);
  }
  return status;
}

}  // namespace deepscale
