#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fmt/core.h>

#include <cerrno>
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

// Without arguments the call is refused as wrong where it is there, and as missing or forbidden elsewhere.
bool allows_io_uring() {
  return syscall(SYS_io_uring_setup, 0, nullptr) == -1 && errno != ENOSYS && errno != EPERM &&
         errno != EACCES;
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
  facts.shared_memory_place = "/dev/shm";
  facts.shared_memory_remedy = "data loaders and NCCL need more: start the container with --shm-size=8g";
  if (allows_io_uring()) facts.asynchronous_io = "io_uring";
  return facts;
}

}  // namespace deepscale
