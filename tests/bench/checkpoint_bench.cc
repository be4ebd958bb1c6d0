// checkpoint_bench FOLDER [--blocks N] [--width W] [--rows R] [--rounds K]: how long a save in the background
// holds up training, beside the time of a save that is waited for. Trains a stack of N blocks of two W x 4W
// layers in fp32 on R rows a step, in one process and one thread; in each round three steps, a save that is
// waited for, and four steps with a save in the background. Medians over the rounds.
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"

namespace deepscale {
namespace {

struct Options {
  std::string folder;
  int blocks = 20;
  int width = 1024;
  int rows = 256;
  int rounds = 3;
};

Options parse(int count, char** arguments) {
  if (count < 2) throw Error(ErrorCode::kInvalidArgument, "usage: checkpoint_bench FOLDER [--name value]...");
  Options options{.folder = arguments[1]};
  for (int i = 2; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i];
    const int value = std::atoi(arguments[i + 1]);
    if (name == "--blocks") options.blocks = value;
    if (name == "--width") options.width = value;
    if (name == "--rows") options.rows = value;
    if (name == "--rounds") options.rounds = value;
  }
  return options;
}

template <typename Function>
double seconds_of(const Function& function) {
  const auto begin = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

torch::nn::Sequential make_model(const Options& options) {
  torch::nn::Sequential model;
  for (int block = 0; block < options.blocks; ++block) {
    model->push_back(torch::nn::Linear(options.width, 4 * options.width));
    model->push_back(torch::nn::ReLU());
    model->push_back(torch::nn::Linear(4 * options.width, options.width));
  }
  return model;
}

void measure(const Options& options) {
  constexpr int kStepsBeside = 4;
  at::set_num_threads(1);
  Config config;
  config.optimizer = OptimizerConfig{.lr = 1e-4};
  InitializeOptions alone;
  alone.device = torch::kCPU;
  const auto engine = initialize(make_model(options), config, alone);
  const torch::Tensor input = torch::randn({options.rows, options.width});
  const auto step = [&] {
    engine->backward(torch::mse_loss(engine->forward(input), input));
    engine->step();
  };
  std::vector<double> steps, saves, stalls, first_steps;
  step();
  for (int round = 0; round < options.rounds; ++round) {
    for (int i = 0; i < 3; ++i) steps.push_back(seconds_of(step));
    saves.push_back(
        seconds_of([&] { engine->save_checkpoint(options.folder, {.tag = "waited", .keep_last = 1}); }));
    const double first = seconds_of([&] {
      engine->save_checkpoint(options.folder, {.tag = "beside", .in_background = true, .keep_last = 1});
      step();
    });
    const double others = seconds_of([&] {
      for (int i = 1; i < kStepsBeside; ++i) step();
    });
    first_steps.push_back(first - median(steps));
    stalls.push_back(first + others - kStepsBeside * median(steps));
  }
  const MemoryReport memory = engine->memory();
  fmt::print(
      "{:.2f} GB of states: step {:.3f} s, save {:.3f} s, stall of a save beside training {:.3f} s, {:.1f} % "
      "of it, {:.3f} s in its first step\n",
      static_cast<double>(memory.parameters + memory.optimizer_state) / 1e9, median(steps), median(saves),
      median(stalls), 100.0 * median(stalls) / median(saves), median(first_steps));
}

}  // namespace
}  // namespace deepscale

int main(int count, char** arguments) {
  try {
    deepscale::measure(deepscale::parse(count, arguments));
  } catch (const deepscale::Error& error) {
    fmt::print(stderr, "checkpoint_bench: {}\n", error.what());
    return 1;
  }
}
