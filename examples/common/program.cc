#include "examples/common/program.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <exception>
#include <thread>

namespace examples {

int run_program(const char* name, const std::function<void()>& program) {
  const auto fail = [name](const char* why) {
    fmt::print(stderr, "{}: {}\n", name, why);
    return 1;
  };
  try {
    program();
    return 0;
  } catch (const c10::Error& error) {
    return fail(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}

void share_cores(const deepscale::WorldLayout& layout, const deepscale::Environment& environment) {
  if (environment.has("OMP_NUM_THREADS")) return;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  torch::set_num_threads(std::max(1, cores / layout.local_world_size));
}

}  // namespace examples
