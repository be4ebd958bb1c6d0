// A program as a person starts it, in a test.
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace examples::testing {

struct Outcome {
  int exit_code = -1;
  std::string output;  // stdout and stderr
};

// One thread for LibTorch; a program that hangs ends before the test's own limit, and its children with it.
inline Outcome run(const std::string& command) {
  Outcome outcome;
  FILE* pipe = popen(("OMP_NUM_THREADS=1 timeout -k 5 250 " + command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer;
  while (const std::size_t bytes = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    outcome.output.append(buffer.data(), bytes);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  return outcome;
}

}  // namespace examples::testing
