#include "runtime/monitor/output_folder.h"

#include <fmt/core.h>

#include "comm/base/error.h"

namespace deepscale {

std::filesystem::path make_output_folder(const MonitorConfig& config, const std::string& monitor) {
  const std::filesystem::path folder =
      std::filesystem::path(config.output_path.empty() ? monitor : config.output_path) / config.job_name;
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (!failure) return folder;
  throw Error(ErrorCode::kSystem,
              fmt::format("{}: cannot make the folder {}: {}", monitor, folder.string(), failure.message()));
}

}  // namespace deepscale
