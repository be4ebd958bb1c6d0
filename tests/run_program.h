// Runs a program as a person starts it, for Linux.
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

// With one thread a rank; ends it after `most_seconds`, since a hanging job must not outlive its test.
inline Outcome run_program(const std::string& command, int most_seconds = 250) {
  Outcome outcome;
  const std::string limit = "timeout -k 5 " + std::to_string(most_seconds) + " ";
  FILE* pipe = popen(("OMP_NUM_THREADS=1 " + limit + command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer;
  while (const std::size_t bytes = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.output.append(buffer.data(), bytes);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  return outcome;
}

}  // namespace deepscale::testing
