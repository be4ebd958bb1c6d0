// Memory that large tensors of the CPU keep from step to step. step_memory_linux.cc or step_memory_windows.cc
// implements it, chosen by CMake.
//
// LibTorch takes the memory of a tensor from malloc, which gives that of large ones back to the system and
// gets it anew, page by page, in every step, and mixes the others with what lives longer. From the first
// StepMemory on, tensors of 256 KiB or more that are made on the CPU lie in one range of addresses of their
// own, best fit (best_fit.h), whose pages stay. What a step did not reach goes back to the system at its end,
// and all that is free with the last StepMemory. Decision 19 has the measurements.
//
// The range serves the whole process, whichever thread makes or frees a tensor; tensors may outlive the
// StepMemory. A StepMemory itself is for one thread. Where the program has given LibTorch an allocator
// itself, where the system reserves no addresses, and on Windows, nothing changes.
#pragma once

namespace deepscale {

class StepMemory {
 public:
  // Also gives back what malloc has free by now.
  StepMemory();
  ~StepMemory();
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

  void end_step();
};

}  // namespace deepscale
