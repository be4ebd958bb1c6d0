// An optimizer with its state on the model's device, through ATen's fused kernels (Adam, AdamW, SGD); Lion
// and Adagrad are a few in-place operators. 16-bit gradients are converted piece by piece, so the extra
// memory is bounded.
#pragma once

#include "runtime/engine/optimizer.h"

namespace deepscale {

class TensorOptimizer final : public Optimizer {
 public:
  TensorOptimizer(const OptimizerConfig& config, const std::vector<Segment>& layout);

  void step(const std::vector<Segment>& segments, const StepOptions& options) override;
  std::vector<std::string> quantities() const override;
  at::Tensor read(const Range& range) override;
  bool reads_in_place(const Range& range) const override;
  void write(const Range& range, const at::Tensor& values) override;
  void restore_steps(std::int64_t steps) override;
  std::int64_t state_bytes() const override;

 private:
  struct Batch;  // a run of segments that goes to one kernel call
  void update(Batch& batch, const StepOptions& options);
  void update_lion(Batch& batch, const StepOptions& options);
  void update_adagrad(Batch& batch, const StepOptions& options);
  at::Tensor place_of(const Range& range) const;

  OptimizerConfig config_;
  std::vector<Segment> layout_;
  std::vector<at::Tensor> first_moments_;   // also SGD's momentum; empty where unused
  std::vector<at::Tensor> second_moments_;  // Adam, AdamW, Adagrad
  at::Tensor kernel_step_;  // the fused kernels' step count; infinite, in effect, without bias correction
};

}  // namespace deepscale
