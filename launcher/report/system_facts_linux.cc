#include <sys/statvfs.h>
#include <sys/utsname.h>

#include <fmt/core.h>

#include <cstdlib>
#include <fstream>

#include "launcher/report/system_facts.h"

namespace deepscale {
namespace {

// The text behind the first line that begins with `key`, without separators and quotes.
std::string read_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto start = line.find_first_not_of(" \t:=\"", key.size());
    if (start == std::string::npos) continue;
    return line.substr(start, line.find_last_not_of(" \t\"") + 1 - start);
  }
  return "";
}

std::uint64_t read_kibibytes(const std::string& key) {
  return std::strtoull(read_value("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

}  // namespace

SystemFacts read_system_facts() {
  SystemFacts facts;
  utsname kernel{};
  uname(&kernel);
  const std::string distribution = read_value("/etc/os-release", "PRETTY_NAME");
  facts.system = fmt::format("{}{}{} {}", distribution, distribution.empty() ? "" : ", ", kernel.sysname,
                             kernel.release);
  facts.processor = read_value("/proc/cpuinfo", "model name");
  facts.memory_bytes = read_kibibytes("MemTotal");
  facts.available_memory_bytes = read_kibibytes("MemAvailable");
  struct statvfs shared {};
  if (statvfs("/dev/shm", &shared) == 0)
    facts.shared_memory_bytes = std::uint64_t{shared.f_frsize} * shared.f_blocks;
  return facts;
}

}  // namespace deepscale
