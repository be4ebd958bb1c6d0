#include "examples/cifar10/run.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "examples/cifar10/cifar10_dataset.h"
#include "examples/cifar10/default_config.h"
#include "examples/cifar10/net.h"
#include "examples/cifar10/training.h"
#include "runtime/deepscale.h"

namespace cifar10 {

namespace {

// As the tutorial has them.
constexpr std::int64_t kDefaultBatchSize = 16;
constexpr deepscale::DType kDefaultDType = deepscale::DType::kFloat16;

deepscale::Config choose_config(const Options& options, int world_size) {
  const deepscale::ConfigContext context{.data_parallel_world_size = world_size,
                                         .micro_batch_size = options.batch_size.value_or(kDefaultBatchSize),
                                         .dtype = options.dtype.value_or(kDefaultDType)};
  deepscale::Config config =
      options.config_path.empty()
          ? deepscale::parse_config(default_config(), "built-in ds_config.json", context)
          : deepscale::load_config(options.config_path, context);
  if (options.stage) config.zero.stage = *options.stage;
  if (options.batch_size) {
    config.micro_batch_size = *options.batch_size;
    config.train_batch_size = *options.batch_size * config.gradient_accumulation_steps * world_size;
  }
  if (options.dtype && *options.dtype != config.dtype) {
    config.dtype = *options.dtype;
    config.check_gradient_overflow = *options.dtype != deepscale::DType::kFloat32;
  }
  return config;
}

// Ranks on one machine share its cores, unless OMP_NUM_THREADS says how; LibTorch reads that by itself.
void share_cores(const deepscale::WorldLayout& layout, const deepscale::Environment& environment) {
  if (environment.has("OMP_NUM_THREADS")) return;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  torch::set_num_threads(std::max(1, cores / layout.local_world_size));
}

void announce(const deepscale::Engine& engine, const LabelledImages& images, const Options& options) {
  const deepscale::Config& config = engine.config();
  fmt::print("Training on {} images of {}; ranks: {} on {}, {}, ZeRO stage {}, {} images a step\n",
             images.count(), options.data_dir, engine.world_size(), engine.device().str(),
             deepscale::dtype_name(config.dtype), config.zero.stage, config.train_batch_size);
  std::fflush(stdout);
}

}  // namespace

void run(const Options& options) {
  const auto environment = deepscale::Environment::of_process();
  const auto layout = deepscale::WorldLayout::from_environment(environment);
  const deepscale::Config config = choose_config(options, layout.world_size);
  Dataset dataset = read_dataset(options.data_dir);
  share_cores(layout, environment);

  torch::manual_seed(options.seed);
  const auto engine = deepscale::initialize(Net(), config, deepscale::join_job());
  const LabelledImages training_images(dataset.train);
  if (engine->rank() == 0) announce(*engine, training_images, options);
  train(*engine, training_images,
        {.epochs = options.epochs,
         .steps_limit = options.steps_limit,
         .log_interval = options.log_interval,
         .seed = options.seed});
  const Accuracy accuracy = test(*engine, LabelledImages(dataset.test));
  if (engine->rank() == 0) print_accuracy(accuracy, dataset.class_names);
}

}  // namespace cifar10
