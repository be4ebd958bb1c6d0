#include <algorithm>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"

namespace deepscale {

JobConfig join_job(const std::string& config_path_or_base64, ConfigContext context) {
  const Environment environment = Environment::of_process();
  const WorldLayout layout = WorldLayout::from_environment(environment);
  const LogLevel level = parse_log_level(environment.get_or("DEEPSCALE_LOG_LEVEL", "info"));
  context.data_parallel_world_size = layout.world_size;

  JobConfig job;
  job.options.layout = layout;
  job.options.logger = layout.rank == 0 ? Logger("deepscale", level)
                                        : Logger("deepscale", std::max(level, LogLevel::kWarning));
  job.config = load_config(config_path_or_base64, context);
  if (layout.rank == 0) {
    for (const std::string& warning : job.config.warnings) job.options.logger.warning("{}", warning);
  }
  CommunicatorOptions communicator_options;
  communicator_options.backend = environment.get_or("DEEPSCALE_BACKEND", "");
  communicator_options.logger = job.options.logger;
  std::shared_ptr<Store> store;
  if (layout.world_size > 1)
    store = join_job_store(layout, job.options.logger, Deadline::after(communicator_options.timeout));
  job.options.communicator = make_communicator(layout, std::move(store), communicator_options);
  return job;
}

}  // namespace deepscale
