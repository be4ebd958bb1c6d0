// A rank that trains with all of its state in files: faulty_disk_program CONFIG CHECKPOINTS STEPS [FILE
// STEP]. Goes on from the latest checkpoint, if there is one; saves after every second step. Rank 0 prints
// the losses, to the last bit. In that step of rank 1 nothing can be read any more from its file of this
// name.
#include <fmt/core.h>
#include <torch/torch.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "runtime/engine/engine.h"
#include "tests/torch/offload_descriptor.h"

namespace deepscale::testing {
namespace {

constexpr std::int64_t kWidth = 64;

torch::nn::Sequential make_model() {
  torch::manual_seed(5);
  torch::nn::Sequential model;
  for (int i = 0; i < 6; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
  return model;
}

struct Fault {
  std::string file;
  std::int64_t step = -1;
};

void train(Engine& engine, const std::string& checkpoints, std::int64_t steps, const Fault& fault) {
  if (std::filesystem::exists(checkpoints)) engine.load_checkpoint(checkpoints);
  for (std::int64_t step = engine.global_steps(); step < steps; ++step) {
    if (step == fault.step && engine.rank() == 1) {
      const std::string folder = engine.config().zero.offload_optimizer.nvme_path;
      if (::ftruncate(descriptor_of(folder, fault.file), 0) != 0) std::abort();
    }
    const double value = 0.1 * static_cast<double>(step + 1) + 0.01 * engine.rank();
    const torch::Tensor loss =
        engine.forward(torch::full({2, kWidth}, value)).to(torch::kFloat).square().mean();
    engine.backward(loss);
    engine.step();
    if (engine.rank() == 0) fmt::print("loss {} {:a}\n", step, loss.item<double>());
    std::fflush(stdout);
    if (step % 2 == 1) engine.save_checkpoint(checkpoints);
  }
}

}  // namespace
}  // namespace deepscale::testing

int main(int argc, char** argv) {
  using namespace deepscale::testing;
  if (argc != 4 && argc != 6) return 2;
  try {
    Fault fault;
    if (argc == 6) fault = {argv[4], std::atoll(argv[5])};
    const auto engine = deepscale::initialize(make_model(), std::string(argv[1]));
    train(*engine, argv[2], std::atoll(argv[3]), fault);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
