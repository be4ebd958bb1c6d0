#include "examples/cifar10/options.h"

#include "examples/common/command_line.h"

namespace cifar10 {
namespace {

std::vector<examples::CommandLine::Option> declarations() {
  return {
      {"data_dir", "DIR", "folder of a data set in CIFAR-10's binary format", "data/digits"},
      {"deepscale_config", "FILE", "a ds_config.json; without it, that of the tutorial"},
      {"deepspeed_config", "FILE", "the same as --deepscale_config"},
      {"dtype", "TYPE", "fp32, bf16 or fp16; by default what the configuration says, or fp16"},
      {"stage", "N", "ZeRO stage, 0 to 3; by default what the configuration says, or 0"},
      {"batch_size", "N", "images of one rank in one step; by default what the configuration says, or 16"},
      {"epochs", "N", "passes over the training images", "30"},
      {"steps_limit", "N", "end training after that many steps; 0: never", "0"},
      {"log_interval", "N", "steps between two lines of progress", "100"},
      {"seed", "N", "of the first weights and of the order of images", "0"},
  };
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  examples::CommandLine line(
      "cifar10",
      "Trains the network of the CIFAR10 tutorial with DeepScale, and tells its accuracy.\n"
      "Start it alone, or on several ranks: deepscale launch --num_gpus 2 cifar10 --deepscale",
      declarations());
  if (!line.parse(argc, argv)) return std::nullopt;
  Options options;
  options.data_dir = line.text("data_dir");
  options.config_path = line.text(line.has("deepscale_config") ? "deepscale_config" : "deepspeed_config");
  if (line.has("dtype")) options.dtype = line.dtype("dtype");
  if (line.has("stage")) options.stage = static_cast<int>(line.integer("stage", 0, 3));
  if (line.has("batch_size")) options.batch_size = line.integer("batch_size", 1, 1 << 20);
  options.epochs = static_cast<int>(line.integer("epochs", 1, 1'000'000));
  options.steps_limit = line.integer("steps_limit", 0);
  options.log_interval = line.integer("log_interval", 1);
  options.seed = static_cast<std::uint64_t>(line.integer("seed", 0));
  return options;
}

}  // namespace cifar10
