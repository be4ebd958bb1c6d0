// The machine beneath: what the system tells about itself. One implementation per platform.
#pragma once

#include <cstdint>
#include <string>

namespace deepscale {

struct SystemFacts {
  std::string system;     // "Debian GNU/Linux 12 (bookworm), Linux 6.1"
  std::string processor;  // its model; empty when unknown
  std::uint64_t memory_bytes = 0;
  std::uint64_t available_memory_bytes = 0;
  std::uint64_t shared_memory_bytes = 0;  // room for memory that processes share
  std::string shared_memory_place;        // "/dev/shm", "commit limit"
  std::string shared_memory_remedy;       // what to do when that is little
  std::string asynchronous_io;  // the system's interface for it, "io_uring"; empty when it allows none
};

SystemFacts read_system_facts();

}  // namespace deepscale
