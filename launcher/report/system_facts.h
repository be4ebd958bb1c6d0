// The machine beneath: what the system tells about itself. One implementation per platform.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace deepscale {

struct SystemFacts {
  std::string system;     // "Debian GNU/Linux 12 (bookworm), Linux 6.1"
  std::string processor;  // its model; empty when unknown
  std::uint64_t memory_bytes = 0;
  std::uint64_t available_memory_bytes = 0;
  std::optional<std::uint64_t> shared_memory_bytes;  // room of /dev/shm, where the platform has it
};

SystemFacts read_system_facts();

}  // namespace deepscale
