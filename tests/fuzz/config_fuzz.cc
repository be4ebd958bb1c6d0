// Any bytes as a ds_config.json: parse_config() returns a Config that the runtime can use, or throws an
// Error; nothing else.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/config/config.h"
#include "runtime/schedule/learning_rate.h"
#include "runtime/schedule/loss_scaler.h"
#include "tests/fuzz/require.h"

namespace {

using deepscale::testing::require;

// Outside the try block below: what the parser accepts, its users must accept too.
void use(const deepscale::Config& config, int world_size) {
  require(
      config.train_batch_size == config.micro_batch_size * config.gradient_accumulation_steps * world_size,
      "the batch triangle");
  require(config.zero.stage <= 2 && config.zero.reduce_bucket_size >= 1, "ZeRO is in range");
  const deepscale::LearningRateSchedule schedule(config.scheduler,
                                                 config.optimizer ? config.optimizer->lr : 1e-3);
  for (const std::int64_t step : {0, 1, 2, 1000, 1'000'000}) {
    schedule.learning_rate(step);
    schedule.momentum(step);
  }
  require(deepscale::LossScaler(config.loss_scale).scale() > 0.0, "the loss scale is positive");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  deepscale::ConfigContext context;
  context.data_parallel_world_size = 2;
  context.total_num_steps = 100;
  deepscale::Config config;
  try {
    config = deepscale::parse_config(text, "fuzz", context);
  } catch (const deepscale::Error&) {
    return 0;
  }
  use(config, context.data_parallel_world_size);
  return 0;
}
