// The optimizer of one rank, over the pieces of the model that the rank updates.
//
// Works on fp32 master weights through ATen's fused kernels (Adam, AdamW, SGD); Lion and Adagrad
// are a few in-place operators. 16-bit gradients are converted piece by piece, so the extra memory is
// bounded. Not thread-safe.
//
// Adam: Kingma & Ba, 2015. AdamW: Loshchilov & Hutter, 2019. Lion: Chen et al., 2023.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/config/config.h"

namespace deepscale {

// A piece of the model. All three have the same number of elements and are contiguous.
struct Segment {
  at::Tensor master;     // fp32; what the optimizer updates
  at::Tensor gradient;   // floating-point, on the same device
  at::Tensor parameter;  // what the model reads; the same memory as master in fp32 training
};

class Optimizer {
 public:
  // State is allocated zeroed, on the device of `masters`, which the later segments' masters must match in
  // order and size.
  Optimizer(const OptimizerConfig& config, const std::vector<at::Tensor>& masters);

  struct StepOptions {
    double learning_rate;
    std::array<double, 2> betas;  // of this step (OneCycle moves them); SGD has none
    double gradient_divisor;      // gradients are divided by it first: loss scale times clipping
  };
  // Updates masters and parameters. Gradients may be overwritten.
  void step(const std::vector<Segment>& segments, const StepOptions& options);

  // The fp32 values that it keeps for each segment, by DeepSpeed's names for them, in the segment's shape.
  struct Moments {
    std::string name;
    std::vector<at::Tensor> tensors;  // one for each segment
  };
  std::vector<Moments> moments() const;
  std::int64_t steps() const { return steps_; }
  // After the moments were filled from a checkpoint.
  void restore_steps(std::int64_t steps);

  std::int64_t state_bytes() const;

 private:
  struct Batch;  // a run of segments that goes to one kernel call
  void update(Batch& batch, const StepOptions& options);
  void update_lion(Batch& batch, const StepOptions& options);
  void update_adagrad(Batch& batch, const StepOptions& options);

  OptimizerConfig config_;
  std::vector<at::Tensor> first_moments_;   // also SGD's momentum; empty tensors where unused
  std::vector<at::Tensor> second_moments_;  // Adam, AdamW, Adagrad
  at::Tensor kernel_step_;  // the fused kernels' step count; infinite, in effect, without bias correction
  std::int64_t steps_ = 0;
};

}  // namespace deepscale
