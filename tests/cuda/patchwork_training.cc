#include "tests/cuda/patchwork_training.h"

#include <torch/torch.h>

namespace deepscale::testing {

Config patchwork_config(int stage, DType dtype) {
  Config config;
  config.dtype = dtype;
  config.gradient_clipping = 0.5;
  config.loss_scale.initial_scale_power = 8;
  config.zero.stage = stage;
  config.zero.reduce_bucket_size = 400;
  config.zero.param_persistence_threshold = 40;
  config.zero.prefetch_bucket_size = 300;
  config.zero.max_live_parameters = 1500;
  config.zero.max_reuse_distance = 600;
  config.optimizer =
      OptimizerConfig{.kind = OptimizerKind::kAdamW, .lr = 4e-3, .betas = {0.9, 0.98}, .eps = 1e-6};
  return config;
}

std::vector<double> train_patchwork(Patchwork model, const Config& config, InitializeOptions options,
                                    int steps) {
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  const auto engine = initialize(std::move(model), config, std::move(options));
  const std::int64_t count = kGlobalBatch / engine->world_size();
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    const TokenBatch batch = global_batch(step).rows(engine->rank() * count, count);
    const torch::Tensor loss = token_loss(engine->forward(batch.tokens), batch.targets.to(engine->device()));
    engine->backward(loss);
    engine->step();
    float mean = loss.item<float>();
    engine->communicator().all_reduce({.data = &mean, .count = 1}, ReduceOp::kAverage).wait();
    losses.push_back(mean);
  }
  return losses;
}

}  // namespace deepscale::testing
