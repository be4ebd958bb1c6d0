#include "runtime/engine/offload.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>

#include "comm/base/error.h"
#include "runtime/offload/optimizer_kernels.h"

namespace deepscale {
namespace {

// Three chunks of up to three quantities are in memory: 36 MiB.
constexpr std::int64_t kMostChunkNumel = 1 << 20;

void refuse_unsupported(const OffloadRequest& request) {
  const OffloadDevice parameters = request.config.zero.offload_param.device;
  if (parameters == OffloadDevice::kCpu && !request.device.is_cpu()) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("zero_optimization.offload_param.device \"cpu\": parameters on {} cannot be offloaded in "
                    "this version of DeepScale; set it to \"none\"",
                    request.device.str()));
  }
}

}  // namespace

OffloadPlan plan_offload(const OffloadRequest& request, Logger& logger) {
  refuse_unsupported(request);
  OffloadPlan plan;
  const OffloadConfig& offload = request.config.zero.offload_optimizer;
  if (offload.device == OffloadDevice::kNone) return plan;
  plan.masters.device = c10::Device(c10::kCPU);
  if (offload.device == OffloadDevice::kCpu) return plan;
  const bool parameters_are_masters = request.device.is_cpu() && request.config.dtype == DType::kFloat32;
  const int moments = has_first_moment(request.optimizer) + has_second_moment(request.optimizer);
  const int quantities = moments + (parameters_are_masters ? 0 : 1);
  if (quantities == 0) return plan;
  plan.optimizer_file = std::make_shared<StateFile>(
      StateFileOptions{.store = {.folder = offload.nvme_path,
                                 .name = fmt::format("deepscale_optimizer.rank_{}", request.rank),
                                 .block_bytes = static_cast<std::size_t>(request.config.aio.block_size),
                                 .queue_depth = request.config.aio.queue_depth},
                       .quantities = quantities,
                       .chunk_numel = std::min(request.config.zero.sub_group_size, kMostChunkNumel)});
  if (!parameters_are_masters) plan.masters.file = plan.optimizer_file;
  logger.info("optimizer state goes to files in {} ({})", offload.nvme_path,
              plan.optimizer_file->description());
  return plan;
}

}  // namespace deepscale
