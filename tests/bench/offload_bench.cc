// offload_bench [--blocks N] [--width W] [--steps S] [--dtype fp32|bf16] [--offload none|cpu|nvme]
// [--offload-param none|nvme] [--path FOLDER] [--threads T] [--rows R]: trains a stack of N blocks of two
// W x 4W layers in one process and says what a step takes, and how much memory it took. With --offload nvme
// under a limit of memory: training of a model whose state does not fit. With --offload-param nvme, of a
// model that does not fit: four of its layers are in memory at a time.
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/zero_init.h"

namespace deepscale {
namespace {

struct Options {
  int blocks = 4;
  int width = 512;
  int steps = 5;
  int threads = 1;
  DType dtype = DType::kBFloat16;
  std::int64_t rows = 8;
  OffloadConfig optimizer, parameters;
};

OffloadDevice parse_device(const std::string& name) {
  return name == "nvme" ? OffloadDevice::kNvme : name == "cpu" ? OffloadDevice::kCpu : OffloadDevice::kNone;
}

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
    if (name == "--rows") options.rows = std::atoi(value.c_str());
    if (name == "--path") options.optimizer.nvme_path = options.parameters.nvme_path = value;
    if (name == "--offload") options.optimizer.device = parse_device(value);
    if (name == "--offload-param") options.parameters.device = parse_device(value);
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

torch::nn::Sequential make_model(const Options& options) {
  torch::nn::Sequential model;
  for (int block = 0; block < options.blocks; ++block) {
    model->push_back(torch::nn::Linear(options.width, 4 * options.width));
    model->push_back(torch::nn::ReLU());
    model->push_back(torch::nn::Linear(4 * options.width, options.width));
  }
  return model;
}

Config config_of(const Options& options) {
  Config config;
  config.dtype = options.dtype;
  config.optimizer = OptimizerConfig{.lr = 1e-4, .weight_decay = 0.01};
  config.zero.stage = options.parameters.device == OffloadDevice::kNone ? 1 : 3;
  config.zero.offload_optimizer = options.optimizer;
  config.zero.offload_param = options.parameters;
  const std::int64_t layer = std::int64_t{4} * options.width * (options.width + 1);
  config.zero.max_live_parameters = 4 * layer;
  config.zero.prefetch_bucket_size = 2 * layer;
  config.zero.reduce_bucket_size = layer;
  config.aio.queue_depth = 32;
  return config;
}

void train(const Options& options) {
  at::set_num_threads(options.threads);
  torch::manual_seed(1);
  const Config config = config_of(options);
  std::optional<zero::Init> scope(std::in_place, nullptr, zero::InitOptions::of(config));
  torch::nn::Sequential model = make_model(options);
  std::int64_t numel = 0;
  for (const torch::Tensor& parameter : model->parameters()) numel += parameter.numel();
  InitializeOptions initialize_options;
  initialize_options.device = torch::kCPU;
  const auto engine = initialize(model, config, initialize_options);
  scope.reset();
  const double after_start = peak_memory();
  std::vector<double> seconds, whole_seconds;
  const torch::Tensor input = torch::randn({options.rows, options.width});
  double loss_value = 0.0;
  for (int step = 0; step < options.steps; ++step) {
    const auto begin_of_all = std::chrono::steady_clock::now();
    const torch::Tensor loss = torch::mse_loss(engine->forward(input).to(torch::kFloat), input);
    engine->backward(loss);
    const auto begin = std::chrono::steady_clock::now();
    engine->step();
    const auto end = std::chrono::steady_clock::now();
    seconds.push_back(std::chrono::duration<double>(end - begin).count());
    whole_seconds.push_back(std::chrono::duration<double>(end - begin_of_all).count());
    loss_value = loss.item<double>();
  }
  for (std::vector<double>* all : {&seconds, &whole_seconds}) std::sort(all->begin(), all->end());
  const MemoryReport memory = engine->memory();
  fmt::print(
      "{:.1f}M parameters, loss {:.5f}: step {:.3f} s, of which optimizer {:.3f} s (medians of {}), in "
      "memory "
      "{:.0f} MB of parameters, {:.0f} MB of gradients, {:.0f} MB of optimizer state, peak memory {:.0f} MB "
      "({:.0f} MB after the start)\n",
      static_cast<double>(numel) / 1e6, loss_value, whole_seconds[whole_seconds.size() / 2],
      seconds[seconds.size() / 2], options.steps, static_cast<double>(memory.parameters) / 1e6,
      static_cast<double>(memory.gradients) / 1e6, static_cast<double>(memory.optimizer_state) / 1e6,
      peak_memory(), after_start);
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
