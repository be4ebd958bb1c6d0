// offload_bench [--blocks N] [--width W] [--steps S] [--dtype fp32|bf16] [--offload none|cpu|nvme] [--path
// FOLDER]
// [--threads T]: trains a stack of N blocks of two W x 4W layers in one process and says what a step takes,
// and how much memory it took. With --offload nvme under a limit of memory: training of a model whose state
// does not fit.
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"

namespace deepscale {
namespace {

struct Options {
  int blocks = 4;
  int width = 512;
  int steps = 5;
  int threads = 1;
  DType dtype = DType::kBFloat16;
  OffloadConfig offload;
};

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i];
    const std::string value = arguments[i + 1];
    if (name == "--blocks") options.blocks = std::atoi(value.c_str());
    if (name == "--width") options.width = std::atoi(value.c_str());
    if (name == "--steps") options.steps = std::atoi(value.c_str());
    if (name == "--threads") options.threads = std::atoi(value.c_str());
    if (name == "--dtype") options.dtype = parse_dtype(value);
    if (name == "--path") options.offload.nvme_path = value;
    if (name == "--offload") {
      options.offload.device = value == "nvme"  ? OffloadDevice::kNvme
                               : value == "cpu" ? OffloadDevice::kCpu
                                                : OffloadDevice::kNone;
    }
  }
  return options;
}

// In MB, from /proc; 0 where there is none.
double peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::atof(line.c_str() + 6) / 1024.0;
  }
  return 0.0;
}

void train(const Options& options) {
  at::set_num_threads(options.threads);
  torch::nn::Sequential model;
  for (int block = 0; block < options.blocks; ++block) {
    model->push_back(torch::nn::Linear(options.width, 4 * options.width));
    model->push_back(torch::nn::ReLU());
    model->push_back(torch::nn::Linear(4 * options.width, options.width));
  }
  std::int64_t numel = 0;
  for (const torch::Tensor& parameter : model->parameters()) numel += parameter.numel();
  Config config;
  config.dtype = options.dtype;
  config.optimizer = OptimizerConfig{.lr = 1e-4, .weight_decay = 0.01};
  config.zero.stage = 1;
  config.zero.offload_optimizer = options.offload;
  config.aio.queue_depth = 32;
  InitializeOptions initialize_options;
  initialize_options.device = torch::kCPU;
  const auto engine = initialize(model, config, initialize_options);
  const double after_start = peak_memory();
  std::vector<double> seconds;
  const torch::Tensor input = torch::randn({8, options.width});
  double loss_value = 0.0;
  for (int step = 0; step < options.steps; ++step) {
    const torch::Tensor loss = torch::mse_loss(engine->forward(input).to(torch::kFloat), input);
    engine->backward(loss);
    const auto begin = std::chrono::steady_clock::now();
    engine->step();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    loss_value = loss.item<double>();
  }
  std::sort(seconds.begin(), seconds.end());
  const MemoryReport memory = engine->memory();
  fmt::print(
      "{:.1f}M parameters, loss {:.5f}: optimizer step {:.3f} s (median of {}), optimizer state in memory "
      "{:.0f} MB, peak memory {:.0f} MB ({:.0f} MB after the start)\n",
      static_cast<double>(numel) / 1e6, loss_value, seconds[seconds.size() / 2], options.steps,
      static_cast<double>(memory.optimizer_state) / 1e6, peak_memory(), after_start);
}

}  // namespace
}  // namespace deepscale

int main(int count, char** arguments) {
  try {
    deepscale::train(deepscale::parse(count, arguments));
  } catch (const deepscale::Error& error) {
    fmt::print(stderr, "offload_bench: {}\n", error.what());
    return 1;
  }
}
