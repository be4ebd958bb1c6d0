// Runs an example as a person starts it, for Linux.
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace deepscale::testing {

struct Outcome {
  int exit_code = -1;
  std::string output;  // stdout and stderr
};

// With one thread a rank; ends it after 250 seconds, since a hanging job must not outlive its test.
inline Outcome run_program(const std::string& command) {
  Outcome outcome;
  FILE* pipe = popen(("OMP_NUM_THREADS=1 timeout -k 5 250 " + command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer;
  while (const std::size_t bytes = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.output.append(buffer.data(), bytes);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  return outcome;
}

}  // namespace deepscale::testing
