#include "runtime/engine/zero_stage.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <numeric>

#include "comm/base/error.h"
#include "runtime/engine/gradient_partition_stage.h"
#include "runtime/engine/single_process_stage.h"
#include "runtime/engine/whole_gradient_stage.h"

namespace deepscale {

namespace {

// Buckets are at most reduce_bucket_size, and small enough that the first ones travel while autograd still
// works: DeepSpeed's default of 5e8 elements would put most models into one bucket, with no overlap and no
// saving at stage 2. At stage 3 a bucket is what one gather brings.
std::int64_t choose_bucket_numel(const ModelTensors& tensors, const ZeroStageOptions& options) {
  const std::vector<std::int64_t> numels = numels_of(tensors.trainable);
  const std::int64_t total = std::accumulate(numels.begin(), numels.end(), std::int64_t{0});
  return std::min(options.bucket_numel,
                  options.stage == 3 ? default_unit_numel(total) : default_bucket_numel(total));
}

}  // namespace

std::unique_ptr<ZeroStage> make_zero_stage(const ModelTensors& tensors, TensorCollectives& collectives,
                                           const ZeroStageOptions& options) {
  at::NoGradGuard no_grad;
  for (at::Tensor parameter : tensors.trainable) parameter.mutable_grad().reset();
  const at::TensorOptions tensor_options = at::TensorOptions(options.dtype).device(options.device);
  const bool is_whole_module = collectives.size() == 1 && !options.parameters.is_elsewhere();
  for (const at::Tensor& frozen : tensors.frozen) {
    // Else it is sharded as soon as it was taken.
    if (is_whole_module || options.stage < 3 || !is_sharded_when_frozen(frozen))
      take_fixed({frozen}, collectives, tensor_options);
  }
  take_fixed(tensors.buffers, collectives, tensor_options);
  if (is_whole_module) return std::make_unique<SingleProcessStage>(tensors, options);
  ZeroStageOptions sized = options;
  sized.bucket_numel = choose_bucket_numel(tensors, options);
  switch (options.stage) {
    case 0:
      return std::make_unique<DataParallelStage>(tensors, collectives, sized);
    case 1:
      // Whole gradients save reductions in the earlier micro batches, and nothing where there are none.
      if (options.accumulates_gradients)
        return std::make_unique<OptimizerPartitionStage>(tensors, collectives, sized);
      [[fallthrough]];
    case 2:
    case 3:
      return std::make_unique<GradientPartitionStage>(tensors, collectives, sized);
    default:
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("zero_optimization.stage {}: expected 0 to 3", options.stage));
  }
}

}  // namespace deepscale
