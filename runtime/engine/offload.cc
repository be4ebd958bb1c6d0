#include "runtime/engine/offload.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>

#include "runtime/offload/optimizer_kernels.h"

namespace deepscale {
namespace {

// Three chunks of up to three quantities are in memory: 36 MiB.
constexpr std::int64_t kMostChunkNumel = 1 << 20;

// What is pinned is lost to all other programs. The rest travels about half as fast.
constexpr std::int64_t kMostPinnedBytes = std::int64_t{4} << 30;

BlockStoreOptions file_of(const OffloadRequest& request, const std::string& folder, const char* content) {
  return {.folder = folder,
          .name = fmt::format("deepscale_{}.rank_{}", content, request.rank),
          .block_bytes = static_cast<std::size_t>(request.config.aio.block_size),
          .queue_depth = request.config.aio.queue_depth};
}

ParameterPlacement place_parameters(const OffloadRequest& request, Logger& logger) {
  const ZeroConfig& zero = request.config.zero;
  const OffloadConfig& offload = zero.offload_param;
  ParameterPlacement placement;
  if (offload.device == OffloadDevice::kNone || zero.stage < 3) return placement;
  if (offload.device == OffloadDevice::kNvme) {
    placement.file = std::make_shared<PagedFile>(file_of(request, offload.nvme_path, "parameters"));
    logger.info("parameters go to files in {} ({})", offload.nvme_path, placement.file->description());
  } else if (!request.device.is_cpu()) {
    placement.on_host = true;
    placement.pinned_bytes = offload.pin_memory ? kMostPinnedBytes : 0;
  }
  return placement;
}

}  // namespace

OffloadPlan plan_offload(const OffloadRequest& request, Logger& logger) {
  OffloadPlan plan{.parameters = place_parameters(request, logger)};
  const OffloadConfig& offload = request.config.zero.offload_optimizer;
  if (offload.device != OffloadDevice::kNone || plan.parameters.is_elsewhere())
    plan.masters.device = c10::Device(c10::kCPU);
  // Parameters that are elsewhere are updated where they are.
  if (!plan.parameters.is_elsewhere()) plan.masters.offloaded_share = offload.ratio;
  if (offload.device != OffloadDevice::kNvme) return plan;
  const bool parameters_are_masters =
      request.device.is_cpu() && request.config.dtype == DType::kFloat32 && !plan.parameters.file;
  const int moments = has_first_moment(request.optimizer) + has_second_moment(request.optimizer);
  const int quantities = moments + (parameters_are_masters ? 0 : 1);
  if (quantities == 0) return plan;
  plan.optimizer_file = std::make_shared<StateFile>(
      StateFileOptions{.store = file_of(request, offload.nvme_path, "optimizer"),
                       .quantities = quantities,
                       .chunk_numel = std::min(request.config.zero.sub_group_size, kMostChunkNumel)});
  if (!parameters_are_masters) plan.masters.file = plan.optimizer_file;
  logger.info("optimizer state goes to files in {} ({})", offload.nvme_path,
              plan.optimizer_file->description());
  return plan;
}

}  // namespace deepscale
