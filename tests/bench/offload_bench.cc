// offload_bench [--blocks N] [--width W] [--steps S] [--dtype fp32|bf16] [--offload none|cpu|nvme]
// [--offload-param none|nvme] [--path FOLDER] [--threads T] [--rows R]: trains a stack of N blocks of two
// W x 4W layers in one process and says what a step takes, and how much memory it took. With --offload nvme
// under a limit of memory: training of a model whose state does not fit. With --offload-param nvme, of a
// model that does not fit: four of its layers are in memory at a time.
#include <fmt/core.h>
#include <torch/torch.h>

#include <optional>
#include <string>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/zero_init.h"
#include "tests/bench/bench_tools.h"
#include "tests/bench/block_stack.h"

namespace deepscale {
namespace {

const std::string kStatus = "/proc/self/status";

struct Options {
  int blocks = 4;
  int width = 512;
  int steps = 5;
  int threads = 1;
  std::int64_t rows = 8;
  std::string dtype = "bf16", optimizer = "none", parameters = "none", path;
};

OffloadDevice parse_device(const std::string& name) {
  if (name == "nvme") return OffloadDevice::kNvme;
  if (name == "cpu") return OffloadDevice::kCpu;
  if (name == "none") return OffloadDevice::kNone;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("offload to '{}'? It is none, cpu or nvme", name));
}

Config config_of(const Options& options) {
  Config config;
  config.dtype = parse_dtype(options.dtype);
  config.optimizer = OptimizerConfig{.lr = 1e-4, .weight_decay = 0.01};
  config.zero.offload_optimizer = {.device = parse_device(options.optimizer), .nvme_path = options.path};
  config.zero.offload_param = {.device = parse_device(options.parameters), .nvme_path = options.path};
  config.zero.stage = config.zero.offload_param.device == OffloadDevice::kNone ? 1 : 3;
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
  torch::nn::Sequential model = bench::make_block_stack(options.blocks, options.width);
  std::int64_t numel = 0;
  for (const torch::Tensor& parameter : model->parameters()) numel += parameter.numel();
  InitializeOptions initialize_options;
  initialize_options.device = torch::kCPU;
  const auto engine = initialize(model, config, initialize_options);
  scope.reset();
  const double after_start = bench::megabytes_in(kStatus, "VmHWM");
  std::vector<double> seconds, whole_seconds;
  const torch::Tensor input = torch::randn({options.rows, options.width});
  double loss_value = 0.0;
  for (int step = 0; step < options.steps; ++step) {
    whole_seconds.push_back(bench::seconds_of([&] {
      const torch::Tensor loss = torch::mse_loss(engine->forward(input).to(torch::kFloat), input);
      engine->backward(loss);
      seconds.push_back(bench::seconds_of([&] { engine->step(); }));
      loss_value = loss.item<double>();
    }));
  }
  const MemoryReport memory = engine->memory();
  fmt::print(
      "{:.1f}M parameters, loss {:.5f}: step {:.3f} s, of which optimizer {:.3f} s (medians of {}), in "
      "memory {:.0f} MB of parameters, {:.0f} MB of gradients, {:.0f} MB of optimizer state, peak memory "
      "{:.0f} MB "
      "({:.0f} MB after the start)\n",
      static_cast<double>(numel) / 1e6, loss_value, bench::median(whole_seconds), bench::median(seconds),
      options.steps, static_cast<double>(memory.parameters) / 1e6,
      static_cast<double>(memory.gradients) / 1e6, static_cast<double>(memory.optimizer_state) / 1e6,
      bench::megabytes_in(kStatus, "VmHWM"), after_start);
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  using namespace deepscale;
  Options options;
  cxxopts::Options line("offload_bench", "Steps of one process, and their memory.");
  auto add = line.add_options();
  add("blocks", "", cxxopts::value(options.blocks));
  add("width", "", cxxopts::value(options.width));
  add("steps", "", cxxopts::value(options.steps));
  add("dtype", "fp32 or bf16", cxxopts::value(options.dtype));
  add("offload", "none, cpu or nvme", cxxopts::value(options.optimizer));
  add("offload-param", "none or nvme", cxxopts::value(options.parameters));
  add("path", "folder for files", cxxopts::value(options.path));
  add("threads", "", cxxopts::value(options.threads));
  add("rows", "", cxxopts::value(options.rows));
  return bench::run(line, argc, argv, [&] { train(options); });
}
