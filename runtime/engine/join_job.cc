#include <algorithm>
#include <utility>

#include "agents/link/rank_link.h"
#include "comm/base/error.h"
#include "comm/nccl/nccl_communicator.h"
#include "runtime/engine/device.h"
#include "runtime/engine/engine.h"

namespace deepscale {

InitializeOptions join_job() {
  const Environment environment = Environment::of_process();
  const WorldLayout layout = WorldLayout::from_environment(environment);
  const LogLevel level = parse_log_level(environment.get_or("DEEPSCALE_LOG_LEVEL", "info"));

  InitializeOptions options;
  options.layout = layout;
  options.logger = layout.rank == 0 ? Logger("deepscale", level)
                                    : Logger("deepscale", std::max(level, LogLevel::kWarning));
  if (environment.has("DEEPSCALE_AGENT"))
    options.link = std::make_shared<RankLink>(RankLink::from_environment(environment));
  CommunicatorOptions communicator_options;
  communicator_options.backend = environment.get_or("DEEPSCALE_BACKEND", "");
  communicator_options.logger = options.logger;
  std::shared_ptr<Store> store;
  if (layout.world_size > 1)
    store = join_job_store(layout, options.logger, Deadline::after(communicator_options.timeout));
  const c10::Device device = choose_device(layout).device;
  options.communicator =
      device.is_cuda()
          ? make_device_communicator(
                layout, std::move(store), communicator_options,
                {.device = device.index(), .nccl_library = environment.get_or("DEEPSCALE_NCCL_LIBRARY", "")})
          : make_communicator(layout, std::move(store), communicator_options);
  return options;
}

JobConfig join_job(const std::string& config_path_or_base64, ConfigContext context) {
  context.data_parallel_world_size = WorldLayout::from_environment(Environment::of_process()).world_size;
  // First, so that a bad file is told before the ranks wait for each other.
  Config config = load_config(config_path_or_base64, context);
  return {.config = std::move(config), .options = join_job()};
}

}  // namespace deepscale
